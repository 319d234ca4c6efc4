/**
 * Loads a program for a simulation. Only the program's top level runs.
 *
 * A file is bundled as for a robot, and evaluated anew by each load. A module that a function imports is loaded by the test
 * runner, and evaluated once.
 */
import { readFileSync, rmSync } from 'node:fs'
import { mkdtemp, readFile, realpath } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, extname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { assetPatterns } from '../../deploy/laptop/bundler/assets.ts'
import { parseJsonText } from '../../deploy/laptop/bundler/logical.ts'
import { writeTree } from '../../deploy/laptop/bundler/tree.ts'
import type { AnyHost, DeclaredProgram } from '../sdk/hosts.ts'
import { rememberBundle } from './places.ts'
import { gatePort } from './rehearsals.ts'

/** A program: its file, or a function that imports it, like `() => import('./program.ts')`. */
export type Source = string | URL | Edited | Named | (() => unknown)

/** A program's file with another text than on disk. */
export interface Edited {
  readonly file: string
  readonly text: string
}

/**
 * The program with `from` replaced by `to`: a new version to swap to. Throws RangeError unless the file has `from` exactly
 * once.
 */
export function edited(program: string | URL, from: string, to: string): Edited {
  const file = pathOf(program)
  const parts = readFileSync(file, 'utf8').split(from)
  if (parts.length === 2) return { file, text: parts.join(to) }
  throw new RangeError(`${file}: expected ${JSON.stringify(from)} once, found it ${parts.length - 1} times`)
}

/** A program that is already built, with its name and version. */
export interface Named {
  readonly program: string
  readonly version: string
  load(): unknown
}

export interface Loaded {
  readonly declared: DeclaredProgram
  readonly program: string
  readonly version: string
  /** The folder of the program's file; null when a function imports it. */
  readonly folder: string | null
}

const HOST = Symbol.for('medulla.host')
/** Programs by module: a second import of the module does not call robot() again. */
const known = new WeakMap<object, DeclaredProgram>()
let queue: Promise<unknown> = Promise.resolve()

export async function load(source: Source): Promise<Loaded> {
  if (typeof source === 'function') {
    return { declared: await declaredBy(async () => source()), program: 'program', version: '0.0.0', folder: null }
  }
  if (typeof source === 'object' && 'load' in source) {
    const { program, version } = source
    return { declared: await declaredBy(async () => source.load()), program, version, folder: null }
  }
  const { file, text } =
    typeof source === 'object' && 'text' in source ? source : { file: pathOf(source), text: undefined }
  const folder = dirname(file)
  const declared = await declaredBy(() => importBundled(file, text))
  const about = await aboutIn(folder)
  return { declared, program: nameOf(about.name, file), version: about.version ?? '0.0.0', folder }
}

/** The name that `medulla build` gives: that of package.json, or else the folder's. */
function nameOf(name: string | undefined, file: string): string {
  const folder = basename(dirname(file))
    .toLowerCase()
    .replace(/[^a-z0-9._]+/g, '-')
  return name?.replace(/^@[^/]*\//, '') ?? (/^[a-z0-9]/.test(folder) ? folder : basename(file, extname(file)))
}

/** Imports one program at a time, because `robot()` finds its host in a global. */
function declaredBy(importing: () => Promise<unknown>): Promise<DeclaredProgram> {
  const loaded = queue.then(async () => {
    const seen: DeclaredProgram[] = []
    const place = globalThis as { [HOST]?: AnyHost }
    place[HOST] = { gate: gatePort(), declare: (program) => void seen.push(program) }
    let module: unknown
    try {
      module = await importing()
    } finally {
      delete place[HOST]
    }
    const [declared = typeof module === 'object' && module !== null ? known.get(module) : undefined, second] = seen
    if (declared === undefined) throw new TypeError('this is not a robot program: it does not call robot()')
    if (second !== undefined) throw new TypeError('this program calls robot() more than once')
    if (typeof module === 'object' && module !== null) known.set(module, declared)
    return declared
  })
  queue = loaded.catch(() => {})
  return loaded
}

const pathOf = (program: string | URL) => (program instanceof URL ? fileURLToPath(program) : resolve(program))

async function importBundled(file: string, text: string | undefined): Promise<unknown> {
  const { Bundler } = await import('../../deploy/laptop/bundler/bundler.ts')
  const own = (path: string) => fileURLToPath(new URL(`${path}${extname(import.meta.url)}`, import.meta.url))
  const library = { sdk: own('../sdk/index'), drivers: own('../../drivers/index') }
  const bundler = new Bundler({ ...library, readable: true })
  const folder = await mkdtemp(join(tmpdir(), 'medulla-simulate-'))
  leftovers.add(folder)
  const root = await realpath(dirname(file))
  const entry = { root, entry: basename(file), assets: await assetsOf(root) }
  try {
    const { code, files, map, shift } = await bundler.bundle(text === undefined ? entry : { ...entry, text })
    writeTree(folder, [{ name: 'program.mjs', bytes: code }, ...files])
    const { href } = pathToFileURL(join(folder, 'program.mjs'))
    rememberBundle(href, { map, shift, root, library: Object.values(library) })
    const program: unknown = await import(href)
    // asset files are read while the program runs; a runner that kills its processes would leave every folder behind
    if (files.length === 0) drop(folder)
    return program
  } finally {
    await bundler.close()
  }
}

/** Folders of bundled programs; removed at the latest when this process exits. */
const leftovers = new Set<string>()
process.once('exit', () => {
  for (const folder of leftovers) drop(folder)
})

function drop(folder: string): void {
  rmSync(folder, { recursive: true, force: true })
  leftovers.delete(folder)
}

async function assetsOf(root: string): Promise<string[]> {
  return assetPatterns((await aboutIn(root)).medulla)
}

/** The folder's package.json, or an empty object. */
async function aboutIn(folder: string): Promise<{ name?: string; version?: string; medulla?: unknown }> {
  const text = await readFile(join(folder, 'package.json'), 'utf8').catch(() => '{}')
  return parseJsonText(text) as { name?: string; version?: string; medulla?: unknown }
}
