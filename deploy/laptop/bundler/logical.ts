/** Paths of a program's files on the robot: below `files/`, by their paths in the program's folder. */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, relative, sep } from 'node:path'

/** Folder of the payload for the program's files besides its code. */
export const FILES = 'files'

interface Package {
  root: string
  name: string
  version: string
}

/** Parses JSON, with or without the byte order mark that editors on Windows write. Throws SyntaxError. */
export function parseJsonText(text: string): unknown {
  return JSON.parse(text.replace(/^\uFEFF/, ''))
}

/** The package that a file belongs to, or null. */
export function packageOf(file: string): Package | null {
  for (let root = dirname(file); ; root = dirname(root)) {
    const path = join(root, 'package.json')
    if (existsSync(path)) {
      const read = readPackage(path)
      if (typeof read.name === 'string' && typeof read.version === 'string') {
        return { root, name: read.name, version: read.version }
      }
    }
    if (dirname(root) === root) return null
  }
}

/** Fields of a package.json; none of a file that cannot be read. */
function readPackage(path: string): { name?: unknown; version?: unknown } {
  try {
    return (parseJsonText(readFileSync(path, 'utf8')) ?? {}) as { name?: unknown; version?: unknown }
  } catch {
    return {}
  }
}

export const isDependency = (file: string): boolean => file.includes(`${sep}node_modules${sep}`)

export const slashes = (path: string): string => path.split(sep).join('/')

/**
 * The path of a file below {@link FILES}. A file outside of the program's folder (of a linked package, or of a dependency in a
 * folder above) gets the path that it would have with its package installed in the program's folder. The @ of a scope becomes
 * _, since no name in a bundle's tar may begin with @.
 */
export function logicalPath(root: string, file: string): string {
  const inside = slashes(relative(root, file))
  if (!inside.startsWith('../')) return inside.replaceAll('node_modules/@', 'node_modules/_')
  const owner = packageOf(file)
  const below = owner === null ? inside.replaceAll('../', '') : slashes(relative(owner.root, file))
  return `node_modules/${(owner?.name ?? 'outside').replace('@', '_')}/${below}`
}

export const encodedPath = (path: string): string => path.split('/').map(encodeURIComponent).join('/')

/** For esbuild's `define`: replaces a module's own path with names that {@link placeStatement} declares in that module. */
export const PLACE_NAMES = {
  __dirname: '__medullaDir',
  __filename: '__medullaFile',
  'import.meta.url': '__medullaUrl',
  'import.meta.dirname': '__medullaDir',
  'import.meta.filename': '__medullaFile',
}

/** The statement that declares the names of {@link PLACE_NAMES} in a module. */
export const placeStatement = (logical: string): string =>
  `var [__medullaUrl,__medullaFile,__medullaDir]=__medullaPlace(${JSON.stringify(encodedPath(logical))});`
