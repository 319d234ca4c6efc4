/** buildinfo.json: what a program was built from, by names that do not depend on the paths of this computer (BUNDLE 11.4). */
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { encodeJson, Fields, isObject, type JsonObject } from '../shared/bundle/strict.ts'
import { Refusal } from '../shared/errors.ts'
import { isDependency, packageOf, slashes } from './bundler/logical.ts'
import type { Module } from './provenance/modules.ts'
import type { Revision } from './provenance/vcs.ts'

export const BUILD_INFO = 'medulla-buildinfo/2'
const BUILD_INFO_1 = 'medulla-buildinfo/1'
export const BUILD_INFO_FILE = 'buildinfo.json'
const MAX_BYTES = 8 * 1024 * 1024

export interface BuildInfo {
  format: typeof BUILD_INFO
  program: string
  version: string
  /** the name in package.json, with its scope; else that of the program */
  path: string
  /** the main module, relative to the program's folder */
  main: string
  /** null if the program's folder is in no checkout of git */
  vcs: Revision | null
  tools: { medulla: string; esbuild: string }
  /** the Node versions for which the program was compiled, and the target of the compiler */
  node: string
  target: string
  modules: Module[]
  inputs: { path: string; sha256: string }[]
}

/** What a reader gets: older bundles (`medulla-buildinfo/1`) do not say everything. */
export type ReadBuildInfo = Omit<BuildInfo, 'format' | 'node' | 'target' | 'modules' | 'tools'> & {
  format: typeof BUILD_INFO | typeof BUILD_INFO_1
  tools: { medulla: string; esbuild: string; node?: string }
  node: string | null
  target: string | null
  modules: (Omit<Module, 'h1'> & { h1: string | null })[]
}

/** Names and hashes of the inputs, sorted. `inputs` are absolute paths; `sdk` is the file that programs import as `medulla`. */
export function describeInputs(
  root: string,
  sdk: string,
  inputs: readonly string[],
): Pick<BuildInfo, 'inputs'> & { medulla: string; ownRoot: string } {
  const own = packageOf(sdk)
  const ownRoot = own?.root ?? dirname(sdk)
  const listed = inputs.map((file) => {
    const sha256 = createHash('sha256').update(readFileSync(file)).digest('hex')
    return { path: nameOf(file), sha256 }
  })
  listed.sort((a, b) => (a.path < b.path ? -1 : 1))
  return { inputs: listed, medulla: own?.version ?? '0.0.0', ownRoot }

  function nameOf(file: string): string {
    const dependency = isDependency(file) ? packageOf(file) : null
    if (dependency && dependency.root !== ownRoot) {
      return `${dependency.name}@${dependency.version}/${slashes(relative(dependency.root, file))}`
    }
    const inside = slashes(relative(root, file))
    if (!inside.startsWith('../')) return inside
    const beside = slashes(relative(ownRoot, file))
    return beside.startsWith('../') ? inside : `medulla/${beside}`
  }
}

/** Files of the program itself, which a commit can hold: not those of packages. With package.json and what else has a say. */
export function ownFiles(root: string, ownRoot: string, inputs: readonly string[]): string[] {
  const about = ['package.json', 'package-lock.json', 'tsconfig.json'].map((name) => join(root, name))
  const library = (file: string): boolean => !slashes(relative(ownRoot, file)).startsWith('../')
  const inside = (file: string): boolean => !slashes(relative(root, file)).startsWith('../')
  const own = inputs.filter((file) => !isDependency(file) && (inside(file) || !library(file)))
  return [...new Set([...own, ...about.filter((file) => existsSync(file))])]
}

export function encodeBuildInfo(info: BuildInfo): Uint8Array {
  return encodeJson(info)
}

/**
 * Reads the buildinfo.json of a bundle. Its content is a claim: every field is checked for its form and nothing else. Throws
 * `bad-bundle` or `unknown-format`.
 */
export function parseBuildInfo(bytes: Uint8Array): ReadBuildInfo {
  const what = BUILD_INFO_FILE
  if (bytes.length > MAX_BYTES) throw new Refusal('too-large', `${what}: ${bytes.length} bytes, at most ${MAX_BYTES}`)
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch {
    throw new Refusal('bad-bundle', `${what}: not a JSON text in UTF-8`)
  }
  if (!isObject(value)) throw new Refusal('bad-bundle', `${what}: expected a JSON object`)
  const fields = new Fields(value, what)
  const { format } = value
  if (format !== BUILD_INFO && format !== BUILD_INFO_1) {
    const got = JSON.stringify(format ?? null).slice(0, 80)
    throw new Refusal('unknown-format', `${what}: unknown format ${got}, known: ${BUILD_INFO}, ${BUILD_INFO_1}`)
  }
  const isNew = format === BUILD_INFO
  fields.keys(
    isNew
      ? ['format', 'program', 'version', 'path', 'main', 'vcs', 'tools', 'node', 'target', 'modules', 'inputs']
      : ['format', 'program', 'version', 'main', 'tools', 'modules', 'inputs'],
  )
  const text = (key: string): string => fields.text(key, TEXT, MAX_TEXT)
  const program = text('program')
  return {
    format,
    program,
    version: text('version'),
    path: isNew ? text('path') : program,
    main: text('main'),
    vcs: isNew && fields.get('vcs') !== null ? parseRevision(fields.object('vcs')) : null,
    tools: parseTools(fields.object('tools'), isNew),
    node: isNew ? text('node') : null,
    target: isNew ? text('target') : null,
    modules: fields.list('modules', MAX_MODULES).map((each) => parseModule(each, isNew)),
    inputs: fields.list('inputs', MAX_INPUTS).map((each) => {
      const input = fieldsOf(each, `${what}: inputs`)
      input.keys(['path', 'sha256'])
      return { path: input.text('path', TEXT, MAX_TEXT), sha256: input.text('sha256', /^[0-9a-f]{64}$/, 64) }
    }),
  }
}

const MAX_TEXT = 1024
const MAX_MODULES = 10_000
const MAX_INPUTS = 100_000
/** No control characters: these texts are printed. */
const TEXT = /^[^\p{Cc}\p{Cf}]+$/u
/** The version before the colon of a hash names how it was made; only this one is known (BUNDLE 11.12). */
const H1 = /^h1:[A-Za-z0-9+/]{43}=$/

/** Throws `unknown-format` for a tree hash made in a way that is not known here. */
export function checkHash(hash: string, where: string): string {
  const prefix = /^[A-Za-z0-9]{1,16}:/.exec(hash)?.[0]
  if (prefix !== undefined && prefix !== 'h1:') {
    throw new Refusal('unknown-format', `${where}: unknown hash ${prefix}, known: h1:`)
  }
  if (!H1.test(hash)) throw new Refusal('bad-bundle', `${where}: expected h1: and a SHA-256 in base64`)
  return hash
}

function fieldsOf(value: unknown, what: string): Fields {
  if (!isObject(value)) throw new Refusal('bad-bundle', `${what}: expected an object`)
  return new Fields(value, what)
}

function parseTools(value: JsonObject, isNew: boolean): ReadBuildInfo['tools'] {
  const fields = new Fields(value, `${BUILD_INFO_FILE}: tools`)
  fields.keys(isNew ? ['medulla', 'esbuild'] : ['medulla', 'node', 'esbuild'])
  const text = (key: string): string => fields.text(key, TEXT, MAX_TEXT)
  const tools = { medulla: text('medulla'), esbuild: text('esbuild') }
  return isNew ? tools : { ...tools, node: text('node') }
}

function parseRevision(value: JsonObject): Revision {
  const fields = new Fields(value, `${BUILD_INFO_FILE}: vcs`)
  fields.keys(['system', 'revision', 'time', 'folder', 'modified'])
  const modified = fields.get('modified')
  if (typeof modified !== 'boolean') return fields.fail("'modified' must be true or false")
  return {
    system: fields.oneOf('system', ['git'] as const),
    revision: fields.text('revision', /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/, 64),
    time: fields.text('time', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, 24),
    // a folder of the repository, which a rebuild enters: no step up, and no absolute path
    folder: fields.text('folder', /^(?!\/)(?!.*(?:^|\/)\.\.(?:\/|$))[^\p{Cc}\p{Cf}]+$/u, MAX_TEXT),
    modified,
  }
}

function parseModule(value: unknown, isNew: boolean): ReadBuildInfo['modules'][number] {
  const fields = fieldsOf(value, `${BUILD_INFO_FILE}: modules`)
  fields.keys(isNew ? ['name', 'version', 'integrity', 'h1'] : ['name', 'version'])
  const [name, version] = [fields.text('name', TEXT, MAX_TEXT), fields.text('version', TEXT, MAX_TEXT)]
  if (!isNew) return { name, version, integrity: null, h1: null }
  const integrity = fields.get('integrity') === null ? null : fields.text('integrity', TEXT, MAX_TEXT)
  return { name, version, integrity, h1: checkHash(fields.text('h1', TEXT, MAX_TEXT), `module ${name}@${version}`) }
}
