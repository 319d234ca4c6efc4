/**
 * Compares what is installed for a program with medulla.sum, and names the files that differ. To name them it needs a list of
 * the files as they were when the hash was recorded: a build keeps one in node_modules, which counts only if its own hash is the
 * recorded one.
 */
import { createHash } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { treeHashOf } from '../../shared/bundle/h1.ts'
import { type InstalledModule, packageFiles } from './modules.ts'
import { readSum } from './sum.ts'

/** A module whose installed files are not the recorded ones. */
export interface ModifiedModule {
  name: string
  version: string
  downloaded: string
  recorded: string
  /** paths in the package; null if no list of the recorded files is there */
  files: { path: string; how: 'changed' | 'added' | 'removed' }[] | null
}

export interface FolderVerdict {
  modified: ModifiedModule[]
  /** `name@version` of modules without a line in medulla.sum */
  unrecorded: string[]
}

/** SHA-256 in hex of each file, by its name in the hash of the module. */
type FileList = Record<string, string>

export async function verifyModules(folder: string, modules: readonly InstalledModule[]): Promise<FolderVerdict> {
  const verdict: FolderVerdict = { modified: [], unrecorded: [] }
  if (modules.length === 0) return verdict
  const { rows } = await readSum(folder)
  for (const module of modules) {
    const { name, version, h1 } = module
    const recorded = rows.get(`${name} ${version}`)
    if (recorded === undefined) verdict.unrecorded.push(`${name}@${version}`)
    else if (recorded !== h1) {
      const files = await modifiedFiles(module, recorded)
      verdict.modified.push({ name, version, downloaded: h1, recorded, files })
    }
  }
  return verdict
}

/**
 * Keeps the lists of files of these modules, whose hashes are recorded. Without them a later check cannot name files. `kept`
 * names the lists that this process has looked at before.
 */
export async function keepLists(modules: readonly InstalledModule[], kept: Set<string>): Promise<void> {
  for (const module of modules) {
    const path = listPath(module)
    if (kept.has(`${path} ${module.h1}`)) continue
    kept.add(`${path} ${module.h1}`)
    if ((await readList(path, module.h1)) !== null) continue
    const list = await listOf(module)
    // a help for later, in a folder that may be read-only: its absence is no error of the build
    await mkdir(dirname(path), { recursive: true })
      .then(() => writeFile(path, `${JSON.stringify(list)}\n`))
      .catch(() => {})
  }
}

async function modifiedFiles(module: InstalledModule, recorded: string): Promise<ModifiedModule['files']> {
  const before = await readList(listPath(module), recorded)
  if (before === null) return null
  const now = await listOf(module)
  const names = [...new Set([...Object.keys(before), ...Object.keys(now)])].sort()
  return names.flatMap((name) => {
    const [was, is] = [before[name], now[name]]
    if (was === is) return []
    const path = name.slice(`${module.name}@${module.version}/`.length)
    return [{ path, how: was === undefined ? 'added' : is === undefined ? 'removed' : 'changed' } as const]
  })
}

async function listOf({ root, name, version }: InstalledModule): Promise<FileList> {
  const files = await packageFiles(root, `${name}@${version}`)
  return Object.fromEntries(files.map((file) => [file.name, createHash('sha256').update(file.bytes).digest('hex')]))
}

/** In the node_modules folder that holds the package: `npm ci` removes list and package together. */
function listPath({ root, name, version }: InstalledModule): string {
  const folder = name.startsWith('@') ? dirname(dirname(root)) : dirname(root)
  return join(folder, '.medulla', `${name.replace('/', '+')}@${version}.json`)
}

/** Null if there is no list with this hash. */
async function readList(path: string, h1: string): Promise<FileList | null> {
  try {
    const list = JSON.parse(await readFile(path, 'utf8')) as FileList
    return treeHashOf(Object.entries(list)) === h1 ? list : null
  } catch {
    return null
  }
}
