/**
 * Builds programs and makes bundles. Invariant: the same inputs give the same payload bytes on every computer (BUNDLE 11;
 * test/deploy/laptop/build.test.ts).
 */
import { resolve } from 'node:path'
import type { TreeFile } from '../shared/bundle/h1.ts'
import { encodeInner } from '../shared/bundle/inner.ts'
import { encodeManifest, MANIFEST_FORMAT, type Manifest, parseManifest } from '../shared/bundle/manifest.ts'
import { packPayload } from '../shared/bundle/payload.ts'
import { encodeRelease, RELEASE_FORMAT, type Release, releaseDigest } from '../shared/bundle/release.ts'
import { seal } from '../shared/bundle/seal.ts'
import type { JsonObject } from '../shared/bundle/strict.ts'
import { library } from '../shared/bundle/tar.ts'
import { Refusal } from '../shared/errors.ts'
import type { Signer } from '../shared/keys.ts'
import { compactMap } from '../shared/sourcemap.ts'
import { BUILD_INFO, BUILD_INFO_FILE, describeInputs, encodeBuildInfo, ownFiles } from './buildinfo.ts'
import { Bundler, TARGET } from './bundler/bundler.ts'
import { Describer } from './describe.ts'
import { ModuleReader } from './provenance/modules.ts'
import { checkSum } from './provenance/sum.ts'
import { revisionOf } from './provenance/vcs.ts'
import { type FolderVerdict, keepLists, verifyModules } from './provenance/verify.ts'
import { findSource, type Source } from './source.ts'

export interface BuildOptions {
  program?: string
  version?: string
  /** replaces `takesStateOf` of package.json */
  takesStateOf?: string
  /** the file that programs import as `medulla` */
  sdk: string
  /** the file that programs import as `medulla/drivers` */
  drivers: string
}

export interface Built {
  files: TreeFile[]
  manifest: Manifest
}

const OUTFILE = 'program.mjs'
/** The Node versions for which programs are compiled. */
const NODE_RANGE = '>=20.19'

/** `path` is a folder or a .ts, .mts, .js or .mjs file. Throws `build-failed`. */
export async function buildProgram(path: string, opts: BuildOptions): Promise<Built> {
  const builder = new Builder(path, opts)
  try {
    return await builder.build()
  } finally {
    await builder.close()
  }
}

/** Builds one program again and again; esbuild keeps its parsed files from one build to the next. */
export class Builder {
  /** Absolute paths of the input files of the last good build, with package.json and tsconfig.json. */
  inputs: readonly string[] = []
  readonly #path: string
  readonly #opts: BuildOptions
  readonly #bundler: Bundler
  readonly #modules = new ModuleReader()
  readonly #kept = new Set<string>()
  #describer: Describer | null = null

  constructor(path: string, opts: BuildOptions) {
    this.#path = resolve(path)
    this.#opts = opts
    this.#bundler = new Bundler(opts)
  }

  /** Starts the process that describes the program now, so that the next build need not wait for it. */
  prepare(): void {
    if (this.#describer?.ready !== true) this.#describer = new Describer()
  }

  /** Name of the program. Throws `build-failed`. */
  get program(): string {
    return findSource(this.#path, this.#opts).program
  }

  /** One at a time. Throws `build-failed`. */
  async build(): Promise<Built> {
    this.prepare()
    const describer = this.#describer as Describer
    this.#describer = null
    try {
      const opts = this.#opts
      const source = findSource(this.#path, opts)
      // esbuild works in another process: meanwhile this one loads tar-stream for makeBundle()
      const [built] = await Promise.all([this.#bundler.bundle(source), library()])
      const inputs = describeInputs(source.root, resolve(opts.sdk), built.inputs)
      // before the program runs: a module that is not the recorded one must not be executed (BUNDLE 15.3)
      const modules = await this.#modules.read(built.inputs, inputs.ownRoot)
      await checkSum(source.root, modules)
      const keeping = keepLists(modules, this.#kept)
      const revision = revisionOf(source.root, ownFiles(source.root, inputs.ownRoot, built.inputs))
      let map: Uint8Array | null = null
      const describing = describer.describe(built, { sdk: opts.sdk, root: source.root, map: () => map })
      for (const later of [describing, revision, keeping]) later.catch(() => {}) // awaited below
      // the program is described in another process, too: meanwhile this one makes the source map
      map = compactMap(built.map, { root: source.root, library: [opts.sdk, opts.drivers], shift: built.shift })
      const { manifest, bytes } = toManifest(source, await describing)
      await keeping
      const info = encodeBuildInfo({
        format: BUILD_INFO,
        program: source.program,
        version: source.version,
        path: source.path,
        main: source.entry,
        vcs: await revision,
        tools: { medulla: inputs.medulla, esbuild: built.esbuild },
        node: NODE_RANGE,
        target: TARGET,
        modules: modules.map(({ name, version, integrity, h1 }) => ({ name, version, integrity, h1 })),
        inputs: inputs.inputs,
      })
      this.inputs = [...['package.json', 'tsconfig.json'].map((name) => resolve(source.root, name)), ...built.inputs]
      const files = [
        { name: OUTFILE, bytes: built.code },
        { name: 'manifest.json', bytes },
        { name: BUILD_INFO_FILE, bytes: info },
        ...(map === null ? [] : [{ name: `${OUTFILE}.map`, bytes: map }]),
        ...built.files,
      ]
      return { files, manifest }
    } finally {
      describer.stop()
    }
  }

  /** Compares the modules that a build would use with medulla.sum, and runs and writes nothing. Throws `build-failed`. */
  async verify(): Promise<FolderVerdict & { modules: number }> {
    const source = findSource(this.#path, this.#opts)
    const { inputs } = await this.#bundler.bundle(source)
    const { ownRoot } = describeInputs(source.root, resolve(this.#opts.sdk), inputs)
    const modules = await this.#modules.read(inputs, ownRoot)
    return { modules: modules.length, ...(await verifyModules(source.root, modules)) }
  }

  async close(): Promise<void> {
    this.#describer?.stop()
    await this.#bundler.close()
  }
}

function toManifest(source: Source, description: JsonObject): { manifest: Manifest; bytes: Uint8Array } {
  const { needs, ratesMs, state, params, config, wire, sdk } = description
  const { program, version, takesStateOf } = source
  const claimed = {
    format: MANIFEST_FORMAT,
    program,
    version,
    entry: OUTFILE,
    wire,
    sdk,
    needs,
    ratesMs,
    state,
    params,
    ...(takesStateOf === null ? {} : { takesStateOf }),
    // absent where the program imports an older library
    ...(config === undefined ? {} : { config }),
  }
  try {
    // the description of a program has no type until parseManifest() has checked it
    const bytes = encodeManifest(claimed as unknown as Manifest)
    return { manifest: parseManifest(bytes), bytes }
  } catch (cause) {
    if (!(cause instanceof Refusal)) throw cause
    throw new Refusal(
      'build-failed',
      `the program gives robot() an unusable description: ${cause.message}`,
      undefined,
      {
        cause,
      },
    )
  }
}

export interface BundleOptions {
  /** `program` by default */
  kind?: Release['kind']
  signer: Signer
  robots: { id: string; age: string }[]
  /** age recipients that may open the bundle, too, and run nothing (BUNDLE 8.6) */
  readers?: readonly string[]
  counter: number
  expires?: string
  arch?: string[]
  node?: string
  slot?: string
  /** ms since 1970, for `created`; now by default */
  now?: number
}

export interface Signed {
  release: Release
  digest: string
  h1: string
}

/** Signs the files and seals them to each robot. Sealing is random: the bytes differ each time, `digest` and `h1` do not. */
export async function makeBundle(
  files: readonly TreeFile[],
  about: Pick<Manifest, 'program' | 'version'>,
  opts: BundleOptions,
): Promise<Signed & { bytes: Uint8Array }> {
  const { inner, ...signed } = await signFiles(files, about, { ...opts, recipients: opts.robots.map(({ id }) => id) })
  const bytes = await seal(inner, [...opts.robots.map((robot) => robot.age), ...(opts.readers ?? [])])
  return { bytes, ...signed }
}

/** What `makeBundle` seals (BUNDLE 7). `recipients` are ids of robots. */
export async function signFiles(
  files: readonly TreeFile[],
  { program, version }: Pick<Manifest, 'program' | 'version'>,
  opts: Omit<BundleOptions, 'robots' | 'readers'> & { recipients: readonly string[] },
): Promise<Signed & { inner: Uint8Array }> {
  const payload = await packPayload(files)
  const { sha256, length, unpacked, h1 } = payload
  const release: Release = {
    format: RELEASE_FORMAT,
    kind: opts.kind ?? 'program',
    program,
    version,
    payload: { sha256, length, unpacked },
    h1,
    counter: opts.counter,
    created: new Date(opts.now ?? Date.now()).toISOString(),
    expires: opts.expires ?? null,
    arch: [...(opts.arch ?? ['any'])].sort(),
    node: opts.node ?? NODE_RANGE,
    recipients: [...opts.recipients].sort(),
    slot: opts.slot ?? null,
  }
  const releaseBytes = encodeRelease(release)
  const signature = await opts.signer.sign('release@medulla', releaseBytes)
  const inner = await encodeInner({ release: releaseBytes, signature, payload: payload.bytes })
  return { inner, release, digest: releaseDigest(releaseBytes), h1 }
}
