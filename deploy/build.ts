/** From source to a bundle: the same inputs give the same payload bytes, wherever, whenever and whoever builds (BUNDLE 11). */
import { readFile, stat } from 'node:fs/promises'
import { basename, dirname, extname, join, resolve } from 'node:path'
import type { BuildFailure, BuildResult, BuildOptions as EsbuildOptions } from 'esbuild'
import { NAME_PATTERN } from './api.ts'
import { describeInputs, encodeBuildInfo } from './buildinfo.ts'
import type { TreeFile } from './bundle/h1.ts'
import { encodeInner } from './bundle/inner.ts'
import { encodeManifest, MANIFEST_FORMAT, type Manifest, parseManifest } from './bundle/manifest.ts'
import { packPayload } from './bundle/payload.ts'
import { encodeRelease, RELEASE_FORMAT, type Release, releaseDigest, VERSION_PATTERN } from './bundle/release.ts'
import { seal } from './bundle/seal.ts'
import type { Json, JsonObject } from './bundle/strict.ts'
import { library } from './bundle/tar.ts'
import { Describer, ThrownAtImport } from './describe.ts'
import { Refusal } from './errors.ts'
import type { Signer } from './keys.ts'

export interface BuildOptions {
  program?: string
  version?: string
  /** file that `medulla` means */
  sdk: string
  /** file that `medulla/drivers` means */
  drivers: string
}

export interface Built {
  files: TreeFile[]
  manifest: Manifest
}

interface Source {
  root: string
  /** relative to root */
  entry: string
  program: string
  version: string
}

/** CommonJS dependencies ask for Node's own modules by require, which an ESM file has to make for itself. */
const REQUIRE =
  "import{createRequire as __medullaRequire}from'node:module';const require=__medullaRequire(import.meta.url);\n"

/** `path` is a folder or a .ts, .mts, .js or .mjs file. Throws `build-failed`. */
export async function buildProgram(path: string, opts: BuildOptions): Promise<Built> {
  const describer = new Describer()
  try {
    const source = await findSource(resolve(path), opts)
    const built = await bundle(source, opts)
    const said = await describer.describe(built.code).catch(async (error: unknown) => {
      throw error instanceof ThrownAtImport ? await withSourcePlace(error, source, opts) : error
    })
    const { manifest, bytes } = toManifest(source, said)
    const { medulla, modules, inputs } = await describeInputs(source.root, resolve(opts.sdk), built.inputs)
    const buildinfo = encodeBuildInfo({
      format: 'medulla-buildinfo/1',
      program: source.program,
      version: source.version,
      main: source.entry,
      tools: { medulla, node: process.version, esbuild: built.esbuild },
      modules,
      inputs,
    })
    const files = [
      { name: 'program.mjs', bytes: built.code },
      { name: 'manifest.json', bytes },
      { name: 'buildinfo.json', bytes: buildinfo },
    ]
    return { files, manifest }
  } finally {
    describer.stop()
  }
}

async function findSource(path: string, opts: BuildOptions): Promise<Source> {
  const found = await stat(path).catch(() => null)
  if (!found) throw failed(`there is no ${path}`)
  const folder = found.isDirectory()
  const root = folder ? path : dirname(path)
  const about = await readPackage(root)
  const entry = folder ? await findEntry(root, about) : basename(path)
  if (!/\.(m?ts|m?js)$/.test(entry)) throw failed(`expected a .ts, .mts, .js or .mjs file, got ${entry}`)
  const own = typeof about.name === 'string' ? about.name.replace(/^@[^/]*\//, '') : null
  const program = opts.program ?? own ?? basename(entry, extname(entry)).toLowerCase()
  const version = opts.version ?? (typeof about.version === 'string' ? about.version : '0.0.0')
  if (!NAME_PATTERN.test(program)) {
    throw failed(
      `'${program}' cannot be the name of a program`,
      'a-z, 0-9, dot, dash and underscore; set "name" in package.json',
    )
  }
  if (!VERSION_PATTERN.test(version) || version.length > 128) throw failed(`'${version}' cannot be a version`)
  return { root, entry, program, version }
}

async function findEntry(root: string, about: JsonObject): Promise<string> {
  const medulla = about.medulla
  const named = typeof medulla === 'object' && medulla !== null && !Array.isArray(medulla) ? medulla.entry : undefined
  const given = named ?? about.main
  if (typeof given === 'string') {
    if (await isFile(join(root, given))) return given.replace(/^\.\//, '')
    throw failed(`package.json names ${given}, which is not there`)
  }
  const candidates = ['program.ts', 'program.mjs', 'program.js', 'index.ts']
  for (const name of candidates) if (await isFile(join(root, name))) return name
  throw failed(
    `no program in ${root}: expected ${candidates.join(', ')} or "main" in package.json`,
    'start one with: medulla new',
  )
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isFile() ?? false
}

async function readPackage(root: string): Promise<JsonObject> {
  const text = await readFile(join(root, 'package.json'), 'utf8').catch(() => '{}')
  try {
    const value = JSON.parse(text) as Json
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  } catch (cause) {
    throw failed(`package.json: ${cause instanceof Error ? cause.message : 'not JSON'}`)
  }
  throw failed('package.json: expected an object')
}

async function bundle(
  source: Source,
  opts: BuildOptions,
  sourcemap: 'inline' | false = false,
): Promise<{ code: Uint8Array; inputs: string[]; esbuild: string }> {
  const esbuild = await import('esbuild')
  const { root, entry } = source
  const options: EsbuildOptions & { write: false; metafile: true } = {
    absWorkingDir: root,
    entryPoints: [`./${entry}`],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    charset: 'utf8',
    minifyWhitespace: sourcemap === false,
    minifySyntax: sourcemap === false,
    treeShaking: true,
    metafile: true,
    sourcemap,
    logLevel: 'silent',
    alias: { medulla: resolve(opts.sdk), 'medulla/drivers': resolve(opts.drivers) },
    // BUNDLE 11.2: a tsconfig of some folder above must not change the result; the program's own may
    ...((await isFile(join(root, 'tsconfig.json'))) ? { tsconfig: join(root, 'tsconfig.json') } : { tsconfigRaw: {} }),
  }
  let result: BuildResult<typeof options>
  try {
    const building = esbuild.build(options)
    // esbuild is another process: this one has time to load what makeBundle() needs
    result = (await Promise.all([building, library()]))[0]
  } catch (cause) {
    const { errors } = cause as BuildFailure
    if (!Array.isArray(errors)) throw cause
    const frames = await esbuild.formatMessages(errors.slice(0, 5), { kind: 'error', color: false, terminalWidth: 100 })
    const native = errors.some((error) => error.text.includes('".node" files'))
    const hint = native ? 'native addons cannot be bundled: ask for the hardware as a handle' : undefined
    throw new Refusal('build-failed', frames.join('').trim(), hint, { cause })
  }
  const text = result.outputFiles[0]?.text ?? ''
  const code = Buffer.from(text.includes('Dynamic require of') ? REQUIRE + text : text)
  return { code, inputs: Object.keys(result.metafile.inputs), esbuild: esbuild.version }
}

/** Once more with a source map, which is worth its time only when something has gone wrong. */
async function withSourcePlace(error: ThrownAtImport, source: Source, opts: BuildOptions): Promise<Refusal> {
  const describer = new Describer(true)
  try {
    await describer.describe((await bundle(source, opts, 'inline')).code)
    return error
  } catch (placed) {
    return placed instanceof ThrownAtImport ? placed : error
  } finally {
    describer.stop()
  }
}

function toManifest(source: Source, said: JsonObject): { manifest: Manifest; bytes: Uint8Array } {
  const { needs, ratesMs, state, params, wire, sdk } = said
  const { program, version } = source
  const claimed = {
    format: MANIFEST_FORMAT,
    program,
    version,
    entry: 'program.mjs',
    wire,
    sdk,
    needs,
    ratesMs,
    state,
    params,
  }
  try {
    // what a program said has no type before it is read back strictly
    const bytes = encodeManifest(claimed as unknown as Manifest)
    return { manifest: parseManifest(bytes), bytes }
  } catch (cause) {
    if (!(cause instanceof Refusal)) throw cause
    throw new Refusal('build-failed', `what the program says to robot() is not usable: ${cause.message}`, undefined, {
      cause,
    })
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

/** Signed, then sealed to each robot: the result differs each time, the release says what is the same. */
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

function failed(message: string, hint?: string): Refusal {
  return new Refusal('build-failed', message, hint)
}
