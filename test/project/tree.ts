/** The repository as files: what the project tests look at. */
import { readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const FOLDERS = ['drivers', 'deploy', 'runtime', 'robots', 'test'] as const

/** Paths below the root, with forward slashes. */
export function sources(folders: readonly string[] = FOLDERS, extensions = ['.ts', '.mjs']): string[] {
  return folders
    .flatMap((folder) => walk(join(ROOT, folder)))
    .filter((path) => extensions.some((end) => path.endsWith(end)))
}

export function text(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8')
}

function walk(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    return entry.isDirectory() ? walk(path) : [relative(ROOT, path).replaceAll('\\', '/')]
  })
}

/** What a file imports, types too; relative paths are resolved to paths below the root. */
export const imports = (path: string): string[] => importsIn(path, text(path))

/** What is loaded with a file: imports of values, at its top. */
export function loaded(path: string): string[] {
  const values = text(path)
    .replace(/^(?:import|export) type [^;]*?from '[^']+'$/gm, '')
    .replace(/\bimport\(\s*'[^']+'/g, '')
  return importsIn(path, values)
}

function importsIn(path: string, source: string): string[] {
  const code = source.replace(/^\s*(\/\/|\*|\/\*).*$/gm, '')
  const found = [
    ...code.matchAll(/(?:^|[\s;}])(?:import|export)\s[^'"`;]*?from\s*['"]([^'"\n]+)['"]/g),
    ...code.matchAll(/(?:^|[\s;])import\s*['"]([^'"\n]+)['"]/g),
    ...code.matchAll(/\bimport\(\s*['"]([^'"\n]+)['"]/g),
  ]
  return found.map(([, from = '']) => (from.startsWith('.') ? join(path, '..', from).replaceAll('\\', '/') : from))
}
