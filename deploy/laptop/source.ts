/** Finds the program at a path: its folder, main file, name and version. */
import { readFileSync, realpathSync, statSync } from 'node:fs'
import { basename, dirname, extname, join } from 'node:path'
import { VERSION_PATTERN } from '../shared/bundle/release.ts'
import type { Json, JsonObject } from '../shared/bundle/strict.ts'
import { Refusal } from '../shared/errors.ts'
import { NAME_PATTERN } from '../shared/names.ts'
import { assetPatterns } from './bundler/assets.ts'
import { parseJsonText } from './bundler/logical.ts'

export interface Source {
  /** the program's folder, without symbolic links */
  root: string
  /** relative to root */
  entry: string
  program: string
  version: string
  /** the name in package.json, with its scope; without one, that of the program */
  path: string
  /** patterns of the files that the bundle contains besides code */
  assets: string[]
  /** the program whose state this one takes over: `"medulla": { "takesStateOf": "old-name" }` in package.json */
  takesStateOf: string | null
}

/** .ts, .js, .mts, .mjs, .cts or .cjs. */
const CODE = /\.[cm]?(?:ts|js)$/

/** `path` is absolute: a folder or a .ts, .mts, .js or .mjs file. Throws `build-failed`. */
export function findSource(path: string, opts: { program?: string; version?: string; takesStateOf?: string }): Source {
  const found = statSync(path, { throwIfNoEntry: false })
  if (!found) throw failed(`there is no ${path}`)
  const folder = found.isDirectory()
  const root = realpathSync(folder ? path : dirname(path))
  const about = readPackage(root)
  const entry = folder ? findEntry(root, about) : basename(path)
  if (!CODE.test(entry)) throw failed(`expected a .ts, .mts, .js or .mjs file, got ${entry}`)
  const own = typeof about.name === 'string' ? about.name.replace(/^@[^/]*\//, '') : null
  const program = opts.program ?? own ?? folderName(root) ?? basename(entry, extname(entry)).toLowerCase()
  const version = opts.version ?? (typeof about.version === 'string' ? about.version : '0.0.0')
  if (!NAME_PATTERN.test(program)) {
    throw failed(
      `'${program}' cannot be the name of a program`,
      'a-z, 0-9, dot, dash and underscore; set "name" in package.json',
    )
  }
  if (!VERSION_PATTERN.test(version) || version.length > 128) throw failed(`'${version}' cannot be a version`)
  const takesStateOf = opts.takesStateOf ?? medullaOf(about).takesStateOf ?? null
  if (takesStateOf !== null && !(typeof takesStateOf === 'string' && NAME_PATTERN.test(takesStateOf))) {
    throw failed(`takesStateOf: expected the name of a program, got ${JSON.stringify(takesStateOf)}`)
  }
  const ownPath = typeof about.name === 'string' ? about.name : program
  return { root, entry, program, version, path: ownPath, assets: assetPatterns(about.medulla), takesStateOf }
}

/**
 * The name of a program without package.json is that of its folder: `My Rover` becomes my-rover. Null when no letter
 * remains.
 */
function folderName(root: string): string | null {
  const name = basename(root)
    .normalize('NFKD')
    .toLowerCase()
    .replace(/[^a-z0-9._]+/g, '-')
    .replace(/^[^a-z0-9]+|[^a-z0-9]+$/g, '')
    .slice(0, 64)
  return NAME_PATTERN.test(name) ? name : null
}

function medullaOf({ medulla }: JsonObject): JsonObject {
  return typeof medulla === 'object' && medulla !== null && !Array.isArray(medulla) ? medulla : {}
}

const CANDIDATES = [
  'program.ts',
  'program.mjs',
  'program.js',
  'index.ts',
  'program.mts',
  'program.cjs',
  'index.mjs',
  'index.js',
]
const IN_SRC = ['src/program.ts', 'src/index.ts', 'src/main.ts']
/** Folders of compiled files, which may be older than their source. */
const COMPILED = /^(?:dist|build|out|lib)\//

/**
 * The main file: `medulla.entry` of package.json, which must exist; else the source of `main`, `main`, or a usual name. `main`
 * cannot be relied on: `npm init` and compilers write it, and the file may be missing or compiled.
 */
function findEntry(root: string, about: JsonObject): string {
  const named = medullaOf(about).entry
  const there = (name: string): boolean => isFile(join(root, name))
  if (typeof named === 'string') {
    if (there(named)) return named.replace(/^\.\//, '')
    throw failed(`package.json names ${named} as "entry" of "medulla", but there is no such file`)
  }
  const main = typeof about.main === 'string' ? about.main.replace(/^\.\//, '') : null
  const source = main !== null && COMPILED.test(main) ? sourceOf(main).find(there) : undefined
  if (source !== undefined) return source
  if (main !== null && there(main)) return main
  const found = [...CANDIDATES, ...IN_SRC].find(there)
  if (found !== undefined) return found
  throw failed(
    `no program in ${root}: expected ${CANDIDATES.join(', ')} or "main" in package.json${main === null ? '' : ` (it names ${main}, but there is no such file)`}`,
    main === null
      ? 'start one with: medulla new'
      : 'name the file in package.json: "medulla": { "entry": "program.ts" }',
  )
}

/** Possible sources of a compiled file: dist/program.js comes from src/program.ts, or from program.ts. */
function sourceOf(main: string): string[] {
  const rest = main.replace(COMPILED, '').replace(/js$/, 'ts')
  return [`src/${rest}`, rest, rest.replace(/^src\//, ''), 'program.ts', ...IN_SRC]
}

export function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false
}

function readPackage(root: string): JsonObject {
  const path = join(root, 'package.json')
  if (!isFile(path)) return {}
  try {
    const value = parseJsonText(readFileSync(path, 'utf8')) as Json
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  } catch (cause) {
    throw failed(`package.json: ${cause instanceof Error ? cause.message : String(cause)}`)
  }
  throw failed('package.json: expected an object')
}

function failed(message: string, hint?: string): Refusal {
  return new Refusal('build-failed', message, hint)
}
