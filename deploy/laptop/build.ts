/**
 * Builds programs and makes bundles. Invariant: the same inputs give the same payload bytes on every computer (BUNDLE 11;
 * test/bundle/build.test.ts).
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
import { describeInputs, encodeBuildInfo } from './buildinfo.ts'
import { type Bundled, Bundler } from './bundler/bundler.ts'
import { Describer } from './describe.ts'
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
      let map: Uint8Array | null = null
      const describing = describer.describe(built, { sdk: opts.sdk, root: source.root, map: () => map })
      describing.catch(() => {}) // awaited below
      // the program is described in another process, too: meanwhile this one makes the source map
      map = compactMap(built.map, { root: source.root, library: [opts.sdk, opts.drivers], shift: built.shift })
      const info = infoOf(source, built, opts)
      const { manifest, bytes } = toManifest(source, await describing)
      this.inputs = [...['package.json', 'tsconfig.json'].map((name) => resolve(source.root, name)), ...built.inputs]
      const files = [
        { name: OUTFILE, bytes: built.code },
        { name: 'manifest.json', bytes },
        { name: 'buildinfo.json', bytes: info },
        ...(map === null ? [] : [{ name: `${OUTFILE}.map`, bytes: map }]),
        ...built.files,
      ]
      return { files, manifest }
    } finally {
      describer.stop()
    }
  }

  async close(): Promise<void> {
    this.#describer?.stop()
    await this.#bundler.close()
  }
}

function infoOf(source: Source, built: Bundled, opts: BuildOptions): Uint8Array {
  const { medulla, modules, inputs } = describeInputs(source.root, resolve(opts.sdk), built.inputs)
  return encodeBuildInfo({
    format: 'medulla-buildinfo/1',
    program: source.program,
    version: source.version,
    main: source.entry,
    tools: { medulla, node: process.version, esbuild: built.esbuild },
    modules,
    inputs,
  })
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
  signer: Signer
  robots: { id: string; age: string }[]
  counter: number
  expires?: string
  arch?: string[]
  node?: string
  slot?: string
  /** ms since 1970, for `created`; now by default */
  now?: number
}

/** Signs the files and seals them to each robot. Sealing is random: the bytes differ each time, `digest` and `h1` do not. */
export async function makeBundle(
  files: readonly TreeFile[],
  manifest: Manifest,
  opts: BundleOptions,
): Promise<{ bytes: Uint8Array; release: Release; digest: string; h1: string }> {
  const payload = await packPayload(files)
  const { sha256, length, unpacked, h1 } = payload
  const release: Release = {
    format: RELEASE_FORMAT,
    kind: 'program',
    program: manifest.program,
    version: manifest.version,
    payload: { sha256, length, unpacked },
    h1,
    counter: opts.counter,
    created: new Date(opts.now ?? Date.now()).toISOString(),
    expires: opts.expires ?? null,
    arch: [...(opts.arch ?? ['any'])].sort(),
    node: opts.node ?? '>=20.19',
    recipients: opts.robots.map((robot) => robot.id).sort(),
    slot: opts.slot ?? null,
  }
  const releaseBytes = encodeRelease(release)
  const signature = await opts.signer.sign('release@medulla', releaseBytes)
  const inner = await encodeInner({ release: releaseBytes, signature, payload: payload.bytes })
  const bytes = await seal(
    inner,
    opts.robots.map((robot) => robot.age),
  )
  return { bytes, release, digest: releaseDigest(releaseBytes), h1 }
}
