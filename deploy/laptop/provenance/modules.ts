/**
 * The npm packages that went into a build, as they are installed: version, integrity from the lock file, and the hash of
 * their files. A package that the lock file does not describe, or describes with another version, is found here.
 */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { type TreeFile, treeHash } from '../../shared/bundle/h1.ts'
import { Refusal } from '../../shared/errors.ts'
import { isDependency, packageOf, parseJsonText, slashes } from '../bundler/logical.ts'

export interface Module {
  name: string
  version: string
  /** `sha512-…` of the package as npm downloaded it; null if no package-lock.json names it */
  integrity: string | null
  /** tree hash of the installed files, each under `name@version/path` */
  h1: string
}

/** A module with the folders that it came from. */
export interface InstalledModule extends Module {
  /** the folder of the package */
  root: string
  /** the folder whose package-lock.json describes the package; null if there is none */
  project: string | null
}

/** Names of lock files of npm; a published npm-shrinkwrap.json is the same format. */
const LOCKS = ['package-lock.json', 'npm-shrinkwrap.json'] as const
/** Most files and bytes of one package: a larger one is no library of a program. */
const MAX_FILES = 20_000
const MAX_BYTES = 256 * 1024 * 1024

interface Locked {
  version: string | null
  integrity: string | null
}

/** Hashes packages; one that has not changed since it was last hashed is not read again. */
export class ModuleReader {
  readonly #hashed = new Map<string, { state: string; h1: string }>()

  /** The packages of these input files, except the library itself, sorted by name and version. Throws `build-failed`. */
  async read(inputs: readonly string[], ownRoot: string): Promise<InstalledModule[]> {
    const packages = new Map<string, NonNullable<ReturnType<typeof packageOf>>>()
    for (const file of inputs) {
      const found = isDependency(file) ? packageOf(file) : null
      if (found !== null && found.root !== ownRoot) packages.set(found.root, found)
    }
    const locks = new Map<string, Map<string, Locked> | null>()
    const modules = new Map<string, InstalledModule>()
    for (const { root, name, version } of packages.values()) {
      const locked = await lockedAt(root, locks)
      if (locked !== null && locked.entry.version !== null && locked.entry.version !== version) {
        throw new Refusal(
          'build-failed',
          `${name} ${version} is installed, but ${join(locked.project, locked.file)} says ${locked.entry.version}`,
          `in ${locked.project}: npm ci`,
        )
      }
      const id = `${name}@${version}`
      const h1 = await this.#h1(root, id)
      const known = modules.get(id)
      if (known !== undefined && known.h1 !== h1) {
        throw new Refusal(
          'build-failed',
          `${id} is installed twice, with different files: ${known.root} (${known.h1}) and ${root} (${h1})`,
          `in ${known.project ?? known.root}: npm ci`,
        )
      }
      const integrity = locked?.entry.integrity ?? known?.integrity ?? null
      modules.set(id, { name, version, integrity, h1, root, project: locked?.project ?? known?.project ?? null })
    }
    return [...modules.values()].sort((a, b) => (`${a.name}@${a.version}` < `${b.name}@${b.version}` ? -1 : 1))
  }

  async #h1(root: string, id: string): Promise<string> {
    const files = await listFiles(root, id)
    const states = await Promise.all(
      files.map(async (name) => {
        const { size, mtimeMs, ctimeMs, ino } = await stat(join(root, name))
        return { size, text: `${name}\0${size} ${mtimeMs} ${ctimeMs} ${ino}` }
      }),
    )
    const bytes = states.reduce((sum, { size }) => sum + size, 0)
    if (bytes > MAX_BYTES) throw tooLarge(id, `${bytes} bytes, at most ${MAX_BYTES}`)
    const state = [id, ...states.map(({ text }) => text)].join('\n')
    const known = this.#hashed.get(root)
    if (known?.state === state) return known.h1
    const h1 = treeHash(await readFiles(root, id, files))
    this.#hashed.set(root, { state, h1 })
    return h1
  }
}

/** The files of an installed package, named `name@version/path` as in its hash. */
export async function packageFiles(root: string, id: string): Promise<TreeFile[]> {
  return readFiles(root, id, await listFiles(root, id))
}

function readFiles(root: string, id: string, files: readonly string[]): Promise<TreeFile[]> {
  return Promise.all(files.map(async (name) => ({ name: `${id}/${name}`, bytes: await readFile(join(root, name)) })))
}

/** Regular files below a package's folder, without those of packages inside of it. npm installs no symbolic links. */
async function listFiles(root: string, id: string): Promise<string[]> {
  const found: string[] = []
  const walk = async (folder: string): Promise<void> => {
    for (const entry of await readdir(join(root, folder), { withFileTypes: true })) {
      const name = folder === '' ? entry.name : `${folder}/${entry.name}`
      if (entry.isDirectory()) {
        if (entry.name !== 'node_modules') await walk(name)
      } else if (entry.isFile()) found.push(name)
      if (found.length > MAX_FILES) throw tooLarge(id, `more than ${MAX_FILES} files`)
    }
  }
  await walk('')
  return found.sort()
}

function tooLarge(id: string, how: string): Refusal {
  return new Refusal('build-failed', `${id} is too large for a module of a program: ${how}`)
}

/** The lock file's entry of the package in `root`. A package may lie below several folders that have a lock file. */
async function lockedAt(
  root: string,
  locks: Map<string, Map<string, Locked> | null>,
): Promise<{ project: string; file: string; entry: Locked } | null> {
  const marker = `${sep}node_modules${sep}`
  for (let at = root.indexOf(marker); at !== -1; at = root.indexOf(marker, at + 1)) {
    const project = root.slice(0, at)
    for (const file of LOCKS) {
      const path = join(project, file)
      if (!locks.has(path)) locks.set(path, await readLock(path))
      const entry = locks.get(path)?.get(slashes(root.slice(at + 1)))
      if (entry !== undefined) return { project, file, entry }
    }
  }
  return null
}

/** Entries by the package's folder, relative to that of the lock file; null if there is no lock file of npm 7 or later. */
export async function readLock(path: string): Promise<Map<string, Locked> | null> {
  const text = await readFile(path, 'utf8').catch(() => null)
  if (text === null) return null
  let packages: unknown
  try {
    packages = (parseJsonText(text) as { packages?: unknown } | null)?.packages
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause)
    throw new Refusal('build-failed', `${path}: ${message}`, undefined, { cause })
  }
  if (typeof packages !== 'object' || packages === null) return null
  const entries = new Map<string, Locked>()
  for (const [folder, value] of Object.entries(packages as Record<string, unknown>)) {
    const { version, integrity } = (value ?? {}) as { version?: unknown; integrity?: unknown }
    entries.set(folder, {
      version: typeof version === 'string' ? version : null,
      integrity: typeof integrity === 'string' ? integrity : null,
    })
  }
  return entries
}
