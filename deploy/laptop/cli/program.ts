/** Makes the bytes of a bundle for given robots from a folder, a source file or a bundle file. */
import { open, readFile, stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { CounterRange } from '../../shared/api.ts'
import type { TreeFile } from '../../shared/bundle/h1.ts'
import type { Manifest } from '../../shared/bundle/manifest.ts'
import { Refusal } from '../../shared/errors.ts'
import type { Signer } from '../../shared/keys.ts'
import type { Builder } from '../build.ts'
import type { ReadBuildInfo } from '../buildinfo.ts'
import { keyPath, signer } from '../config.ts'
import type { RebuildOptions } from '../provenance/rebuild.ts'
import type { App } from './app.ts'
import type { Target } from './robot.ts'

export interface Bundle {
  bytes: Uint8Array
  /** Present for a bundle that was built just now. A laptop cannot open a bundle file, which is sealed to the robot. */
  built?: About
}
/** A bundle that was built just now. */
export type Built = Bundle & { built: About }

interface About {
  program: string
  version: string
  digest: string
  h1: string
}

const DAY_MS = 24 * 3600 * 1000
const AGE_HEADER = 'age-encryption.org/v1\n'

/** Whether `path` is a bundle file, rather than a folder or a source file. Throws `usage` when it does not exist. */
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
  /** Asks the robot which counters it takes for a program. Absent: the build asks no robot (BUNDLE 6.6). */
  range?: ((program: string) => Promise<CounterRange>) | undefined
  /** The program whose state this one takes over; replaces `takesStateOf` of package.json. */
  stateOf?: string | undefined
  /** Age recipients that may open the bundle, besides the robots. */
  readers?: readonly string[]
  /** Signs instead of the user's own key; asked for each build. */
  signer?: (() => Promise<Signer>) | undefined
  /** Without `range`: the counter must be above this one. */
  above?: number | undefined
}

/** Builds a program, signs it, and seals it to `robots`. */
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
  /** Starts a process now that the next build would have to wait for. */
  prepare(): void
  /** Absolute paths of the input files of the last good build. */
  inputs(): readonly string[]
  close(): Promise<void>
}

/** Loads the builder, and with it esbuild: pushing a bundle file does not need them. */
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
  const loading = options.signer === undefined ? signer(keyPath(app.dir, options.key, app.env)) : null
  loading?.catch(() => {}) // awaited in build(): an error of the build is reported before an error of the key
  const signing = (): Promise<Signer> => loading ?? (options.signer as () => Promise<Signer>)()
  const builder = new Builder(path, {
    ...library(),
    ...(options.stateOf === undefined ? {} : { takesStateOf: options.stateOf }),
  })
  const unasked = { least: (options.above ?? 0) + 1, most: Number.MAX_SAFE_INTEGER, now: 0 }
  return {
    async build() {
      app.term.progress(`building ${basename(path) || path}`)
      // ask the robot while the program is built
      const asking = options.range?.(builder.program)
      asking?.catch(() => {})
      const { files, manifest } = await builder.build()
      const range = await asking
      if (range !== undefined) noteClocks(app, range)
      const counter = nextCounter(Date.now(), range ?? unasked)
      const { bytes, release, digest, h1 } = await makeBundle(files, manifest, {
        signer: await signing(),
        // read now: the session may have brought a certificate with new keys
        robots: robots.map(({ name, card }) => ({ id: card.id, age: ageOf(name, card.age) })),
        counter,
        ...(options.readers === undefined ? {} : { readers: options.readers }),
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

/**
 * A wrong clock does not stop a push. It gets a note, because bundle files, `--expires` and the dates of receipts depend on
 * it.
 */
function noteClocks({ term }: App, { now, synchronised }: CounterRange): void {
  const days = (now - Date.now()) / DAY_MS
  if (Math.abs(days) <= 1) return
  const how = `${Math.abs(days).toFixed(0)} days ${days > 0 ? 'ahead of' : 'behind'}`
  const robot = synchronised ? "the robot's clock" : "the robot's clock (not synchronised)"
  term.note(`${robot} is ${how} this computer's; on the one that is wrong: sudo timedatectl set-ntp true`)
}

/** Signs the runtime of the package at `path`, and seals it to the robot. */
export async function buildRuntime(
  app: App,
  path: string,
  robot: Target,
  { key, range: ask }: { key: string | undefined; range: () => Promise<CounterRange> },
): Promise<Built> {
  const [{ readRuntime }, { makeBundle }, { nextCounter }] = await Promise.all([
    import('../runtimepackage.ts'),
    import('../build.ts'),
    import('../../shared/bundle/release.ts'),
  ])
  app.term.progress(`packing ${path}`)
  const [{ files, node, ...about }, range] = await Promise.all([readRuntime(path), ask()])
  noteClocks(app, range)
  const { bytes, digest, h1 } = await makeBundle(files, about, {
    kind: 'runtime',
    signer: await signer(keyPath(app.dir, key, app.env)),
    robots: [{ id: robot.card.id, age: ageOf(robot.name, robot.card.age) }],
    counter: nextCounter(Date.now(), range),
    node,
  })
  return { bytes, built: { ...about, digest, h1 } }
}

/**
 * Signs the program that a card brings to a robot without any (BUNDLE 19). It is not sealed: the robot makes its key at its first
 * start. `publicKey` is the line of the key that signed.
 */
export async function buildFirstProgram(
  app: App,
  path: string,
  key: string | undefined,
): Promise<{ bytes: Uint8Array; manifest: Manifest; publicKey: string }> {
  const [{ signFiles }, { FIRST_START, nextCounter }] = await Promise.all([
    import('../build.ts'),
    import('../../shared/bundle/release.ts'),
  ])
  const signing = await signer(keyPath(app.dir, key, app.env))
  const { files, manifest } = await buildFiles(app, path)
  const range = { least: 1, most: Number.MAX_SAFE_INTEGER, now: 0 }
  const counter = nextCounter(Date.now(), range)
  const { inner } = await signFiles(files, manifest, { signer: signing, recipients: [FIRST_START], counter })
  return { bytes: inner, manifest, publicKey: signing.publicKey }
}

/** Builds a program without signing or sealing it. */
export async function buildFiles(app: App, path: string): Promise<{ files: TreeFile[]; manifest: Manifest }> {
  const { buildProgram } = await import('../build.ts')
  app.term.progress(`building ${basename(path) || path}`)
  return buildProgram(path, library())
}

/** Compares the installed modules of a program with its medulla.sum. */
export async function verifyFolder(app: App, path: string): Promise<Awaited<ReturnType<Builder['verify']>>> {
  const { Builder } = await import('../build.ts')
  app.term.progress(`checking the modules of ${basename(path) || path}`)
  const builder = new Builder(path, library())
  try {
    return await builder.verify()
  } finally {
    await builder.close()
  }
}

/** Builds a program again from the source that its bundle names. */
export async function rebuildFiles(
  app: App,
  info: ReadBuildInfo,
  options: Pick<RebuildOptions, 'source' | 'takesStateOf'>,
): Promise<{ files: TreeFile[]; manifest: Manifest }> {
  const { rebuild } = await import('../provenance/rebuild.ts')
  return rebuild(info, { ...library(), ...options, progress: (text) => app.term.progress(text) })
}

/** The files of this installation that programs import as `medulla` and `medulla/drivers`. */
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
