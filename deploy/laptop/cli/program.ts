/** From what lies on the laptop's disk to the bytes of a bundle for given robots. */
import { open, readFile, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { CounterRange } from '../../shared/api.ts'
import type { TreeFile } from '../../shared/bundle/h1.ts'
import type { Manifest } from '../../shared/bundle/manifest.ts'
import { Refusal } from '../../shared/errors.ts'
import type { App } from './app.ts'
import { keyPath, signer } from './config.ts'
import type { Target } from './robot.ts'

export interface Bundle {
  bytes: Uint8Array
  /** Only of a bundle that was built here: one from a file is sealed to the robot, and opaque to the laptop. */
  built?: About
}
/** A bundle that was built here. */
export type Built = Bundle & { built: About }

interface About {
  program: string
  version: string
  digest: string
  h1: string
}

const DAY_MS = 24 * 3600 * 1000
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
  /** What the robot answers for a program; absent: no robot is asked (BUNDLE 6.6). */
  range?: ((program: string) => Promise<CounterRange>) | undefined
  /** The program whose state it takes over, in the place of what package.json says. */
  stateOf?: string | undefined
  /** Without a range: a floor to be above. */
  above?: number | undefined
}

/** Builds, signs and seals to `robots`. */
export async function buildBundle(
  app: App,
  path: string,
  robots: readonly Target[],
  options: BuildOptions,
): Promise<Built> {
  const workshop = await openWorkshop(app, path, robots, options)
  try {
    return await workshop.build()
  } finally {
    await workshop.close()
  }
}

/** Builds one program again and again. */
export interface Workshop {
  /** One at a time. */
  build(): Promise<Built>
  /** Starts now what the next build would have to wait for. */
  prepare(): void
  /** Absolute paths of the files that the last good build was made of. */
  inputs(): readonly string[]
  close(): Promise<void>
}

/** esbuild is loaded here, and only here. */
export async function openWorkshop(
  app: App,
  path: string,
  robots: readonly Target[],
  options: BuildOptions,
): Promise<Workshop> {
  const [{ Builder, makeBundle }, { nextCounter }] = await Promise.all([
    import('../build.ts'),
    import('../../shared/bundle/release.ts'),
  ])
  const signing = signer(keyPath(app.dir, options.key, app.env))
  signing.catch(() => {}) // looked at below; a build that fails comes first
  const builder = new Builder(path, {
    ...library(),
    ...(options.stateOf === undefined ? {} : { takesStateOf: options.stateOf }),
  })
  const recipients = robots.map(({ name, card }) => ({ id: card.id, age: ageOf(name, card.age) }))
  const unasked = { least: (options.above ?? 0) + 1, most: Number.MAX_SAFE_INTEGER, now: 0 }
  return {
    async build() {
      app.term.progress(`building ${basename(path) || path}`)
      // the robot answers while the program is built
      const asking = options.range?.(builder.program)
      asking?.catch(() => {})
      const { files, manifest } = await builder.build()
      const range = await asking
      if (range !== undefined) noteClocks(app, range)
      const counter = nextCounter(Date.now(), range ?? unasked)
      const { bytes, release, digest, h1 } = await makeBundle(files, manifest, {
        signer: await signing,
        robots: recipients,
        counter,
        ...(options.slot === undefined ? {} : { slot: options.slot }),
        ...(options.expires === undefined ? {} : { expires: options.expires }),
      })
      return { bytes, built: { program: release.program, version: release.version, digest, h1 } }
    },
    prepare: () => builder.prepare(),
    inputs: () => builder.inputs,
    close: () => builder.close(),
  }
}

/** A wrong clock does not stop a push; it is told, because bundle files, `--expires` and the dates of receipts go by it. */
function noteClocks({ term }: App, { now, synchronised }: CounterRange): void {
  const days = (now - Date.now()) / DAY_MS
  if (Math.abs(days) <= 1) return
  const how = `${Math.abs(days).toFixed(0)} days ${days > 0 ? 'ahead of' : 'behind'}`
  const robot = synchronised ? "the robot's clock" : "the robot's clock (not synchronised)"
  term.note(`${robot} is ${how} this computer's; on the one that is wrong: sudo timedatectl set-ntp true`)
}

/** What a bundle of it holds. */
export async function buildFiles(app: App, path: string): Promise<{ files: TreeFile[]; manifest: Manifest }> {
  const { buildProgram } = await import('../build.ts')
  app.term.progress(`building ${basename(path) || path}`)
  return buildProgram(path, library())
}

/** What programs import, in this installation. */
function library(): { sdk: string; drivers: string } {
  const sdk = fileURLToPath(import.meta.resolve('medulla'))
  return { sdk, drivers: fileURLToPath(import.meta.resolve('medulla/drivers')) }
}

export async function readBundle(path: string): Promise<Bundle> {
  return { bytes: await readFile(path) }
}

function ageOf(name: string, age: string | undefined): string {
  if (age === undefined) throw new Refusal('unknown-robot', `the card of ${name} has no age key`)
  return age
}
