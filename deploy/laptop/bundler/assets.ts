/**
 * The files of a program besides its code: those that `"assets"` in its package.json names, and those that its modules
 * read.
 */
import { readFileSync, statSync } from 'node:fs'
import { isAbsolute, resolve, sep } from 'node:path'
import type { TreeFile } from '../../shared/bundle/h1.ts'
import { LIMITS } from '../../shared/bundle/limits.ts'
import { isFileName } from '../../shared/bundle/tar.ts'
import { Refusal } from '../../shared/errors.ts'
import { FILES, logicalPath } from './logical.ts'

/** Without program.mjs, manifest.json and buildinfo.json. */
const MOST_FILES = LIMITS.files - 3
/** How many of the largest files an error names. */
const LARGEST = 3

/**
 * Absolute paths of the matching files, sorted. Throws `build-failed` for a pattern that leads out of the folder, or
 * matches no file.
 */
export async function matchAssets(root: string, patterns: readonly string[]): Promise<string[]> {
  const found = new Set<string>()
  for (const pattern of patterns) {
    const parts = pattern.split(/[\\/]/)
    if (isAbsolute(pattern) || parts.includes('..')) {
      throw failed(`"assets" names ${pattern}: expected a path in the program's folder`)
    }
    const { glob } = await import('tinyglobby')
    const ignore = pattern.includes('node_modules') ? [] : ['**/node_modules/**']
    const paths = await glob([pattern], { cwd: root, absolute: true, onlyFiles: true, ignore })
    if (paths.length === 0) {
      throw failed(
        `"assets" names ${pattern}, but no file in ${root} matches`,
        'patterns: page.html, public/**, sounds/*.wav',
      )
    }
    for (const path of paths) found.add(path.split('/').join(sep))
  }
  return [...found].sort()
}

/** Reads the files, with their names in the payload. Throws `build-failed`. */
export function readAssets(root: string, paths: Iterable<string>): TreeFile[] {
  const sizes = new Map([...new Set(paths)].map((path) => [resolve(path), statSync(path).size]))
  checkSizes(sizes)
  return [...sizes.keys()].map((path) => {
    const name = `${FILES}/${logicalPath(root, path)}`
    if (!isFileName(name)) {
      throw failed(
        `${name.slice(FILES.length + 1)} does not fit in a bundle: the path of a file has at most ${LIMITS.name - FILES.length - 1} characters of A-Z, a-z, 0-9, dot, dash and underscore, and no part of it begins with a dot or a dash`,
        'rename the file',
      )
    }
    return { name, bytes: readFileSync(path) }
  })
}

/** Checks number and sizes before any file is read. */
function checkSizes(sizes: ReadonlyMap<string, number>): void {
  if (sizes.size > MOST_FILES)
    throw failed(`the program has ${sizes.size} files, at most ${MOST_FILES} fit in a bundle`)
  const total = [...sizes.values()].reduce((sum, size) => sum + size, 0)
  if (total <= LIMITS.unpacked) return
  const largest = [...sizes].sort(([, a], [, b]) => b - a).slice(0, LARGEST)
  const list = largest.map(([path, size]) => `${path} (${inMb(size)})`).join(', ')
  throw failed(
    `the files of the program have ${inMb(total)}, at most ${inMb(LIMITS.unpacked)} fit in a bundle: ${list}`,
  )
}

const inMb = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MB`

/** `"medulla": { "assets": [...] }`. Throws `build-failed`. */
export function assetPatterns(medulla: unknown): string[] {
  const assets = typeof medulla === 'object' && medulla !== null ? (medulla as { assets?: unknown }).assets : undefined
  if (assets === undefined) return []
  if (Array.isArray(assets) && assets.every((one) => typeof one === 'string' && one !== '')) return assets as string[]
  throw failed(
    'package.json: expected "assets" of "medulla" to be a list of paths',
    '"medulla": { "assets": ["public/**", "model.bin"] }',
  )
}

function failed(message: string, hint?: string): Refusal {
  return new Refusal('build-failed', message, hint)
}
