/**
 * Invariant: loading a program runs its top level and nothing else of it.
 *
 * A file is bundled first, as for a robot, and so is new with each load; what a function imports is whatever its test
 * runner makes of it, and is evaluated once.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, dirname, extname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { Declared, Hosts } from '../sdk/hosts.ts'

/** A file of a program, or what imports one: `() => import('./program.ts')`. */
export type Source = string | URL | (() => unknown)

export interface Loaded {
  readonly declared: Declared
  readonly program: string
  readonly version: string
  /** The folder of its file; null when a function imports it. */
  readonly folder: string | null
}

const HOST = Symbol.for('medulla.host')
/** By the module, as it is evaluated once. */
const known = new WeakMap<object, Declared>()
let queue: Promise<unknown> = Promise.resolve()

export async function load(source: Source): Promise<Loaded> {
  if (typeof source === 'function') {
    return { declared: await declaredBy(async () => source()), program: 'program', version: '0.0.0', folder: null }
  }
  const file = source instanceof URL ? fileURLToPath(source) : resolve(source)
  const folder = dirname(file)
  const declared = await declaredBy(() => importBundled(file))
  const about = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8').catch(() => '{}')) as Record<
    string,
    string
  >
  return { declared, program: about.name ?? basename(file, extname(file)), version: about.version ?? '0.0.0', folder }
}

/** One at a time: `robot()` finds its host in a global. */
function declaredBy(importing: () => Promise<unknown>): Promise<Declared> {
  const loaded = queue.then(async () => {
    const seen: Declared[] = []
    const place = globalThis as { [HOST]?: Hosts }
    place[HOST] = { declare: (program) => void seen.push(program) }
    let module: unknown
    try {
      module = await importing()
    } finally {
      delete place[HOST]
    }
    const [declared = typeof module === 'object' && module !== null ? known.get(module) : undefined, second] = seen
    if (declared === undefined) throw new TypeError('what was loaded is no robot program: it does not call robot()')
    if (second !== undefined) throw new TypeError('a program calls robot() once, this one called it again')
    if (typeof module === 'object' && module !== null) known.set(module, declared)
    return declared
  })
  queue = loaded.catch(() => {})
  return loaded
}

async function importBundled(file: string): Promise<unknown> {
  const { build } = await import('esbuild')
  const own = (path: string) => fileURLToPath(new URL(`${path}${extname(import.meta.url)}`, import.meta.url))
  const folder = await mkdtemp(join(tmpdir(), 'medulla-simulate-'))
  try {
    const outfile = join(folder, 'program.mjs')
    await build({
      entryPoints: [file],
      outfile,
      bundle: true,
      format: 'esm',
      platform: 'node',
      target: 'node20',
      sourcemap: 'inline',
      logLevel: 'silent',
      alias: { medulla: own('../sdk/index'), 'medulla/drivers': own('../../drivers/index') },
    })
    return await import(pathToFileURL(outfile).href)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
