/** From what lies on the laptop's disk to the bytes of a bundle for given robots. */
import { open, readFile, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Refusal } from '../errors.ts'
import type { App } from './app.ts'
import { keyPath, signer } from './config.ts'
import type { Target } from './robot.ts'

export interface Bundle {
  bytes: Uint8Array
  /** Only of a bundle that was built here: one from a file is sealed to the robot, and opaque to the laptop. */
  built?: { program: string; version: string; digest: string; h1: string }
}

const AGE_HEADER = 'age-encryption.org/v1\n'

/** `path` is a bundle; a folder or a source file is not. Throws `usage` when there is nothing. */
export async function isBundle(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  if (found === undefined) throw new Refusal('usage', `no such file or folder: ${path}`)
  if (found.isDirectory()) return false
  if (path.endsWith('.medulla')) return true
  const file = await open(path)
  try {
    const head = Buffer.alloc(AGE_HEADER.length)
    await file.read(head, 0, head.length, 0)
    return head.toString('latin1') === AGE_HEADER
  } finally {
    await file.close()
  }
}

export interface BuildOptions {
  key?: string | undefined
  slot?: string | undefined
  expires?: string | undefined
}

/** Builds, signs and seals to `robots`. esbuild is loaded here, and only here. */
export async function buildBundle(
  app: App,
  path: string,
  robots: readonly Target[],
  options: BuildOptions,
): Promise<Bundle> {
  const { buildProgram, makeBundle } = await import('../build.ts')
  const sdk = fileURLToPath(import.meta.resolve('medulla'))
  const drivers = fileURLToPath(import.meta.resolve('medulla/drivers'))
  const signing = signer(keyPath(app.dir, options.key, app.env))
  signing.catch(() => {}) // looked at below; a build that fails comes first
  app.term.progress(`building ${basename(path) || path}`)
  const { files, manifest } = await buildProgram(path, { sdk, drivers })
  const { bytes, release, digest, h1 } = await makeBundle(files, manifest, {
    signer: await signing,
    robots: robots.map(({ name, card }) => ({ id: card.id, age: ageOf(name, card.age) })),
    counter: Date.now(),
    ...(options.slot === undefined ? {} : { slot: options.slot }),
    ...(options.expires === undefined ? {} : { expires: options.expires }),
  })
  return { bytes, built: { program: release.program, version: release.version, digest, h1 } }
}

export async function readBundle(path: string): Promise<Bundle> {
  return { bytes: await readFile(path) }
}

function ageOf(name: string, age: string | undefined): string {
  if (age === undefined) throw new Refusal('unknown-robot', `the card of ${name} has no age key`)
  return age
}
