/**
 * Makes the source map in a payload (BUNDLE 11.9): positions in the author's files and in npm packages, without their text and
 * without paths of the computer that built it.
 */
import { realpathSync } from 'node:fs'
import { dirname, relative, resolve, sep } from 'node:path'
import { decode, encode, type SourceMapSegment } from '@jridgewell/sourcemap-codec'
import { LIMITS } from './bundle/limits.ts'
import { LIBRARY_SOURCE } from './stack.ts'

interface RawMap {
  sources: string[]
  mappings: string
}

/**
 * `raw` is esbuild's map, with sources relative to `root`, the program's folder. `library` are the files that programs import as
 * `medulla` and `medulla/drivers`. `shift` is the number of lines before esbuild's output. Null if the map is too large.
 */
export function compactMap(
  raw: string,
  { root, library, shift }: { root: string; library: readonly string[]; shift: number },
): Uint8Array | null {
  const { sources, mappings } = JSON.parse(raw) as RawMap
  // esbuild resolves symbolic links in the names of files
  const folders = library.map((file) => dirname(real(resolve(file))) + sep)
  const names = sources.map((source) => nameOf(resolve(root, source), root, folders))
  const used = new Map<string, number>()
  const indexOf = (name: string): number => {
    const index = used.get(name) ?? used.size
    used.set(name, index)
    return index
  }
  const lines = decode(mappings).map((line) => compactLine(line, names, indexOf))
  const before: SourceMapSegment[][] = Array.from({ length: shift }, () => [])
  const map = { version: 3, sources: [] as string[], names: [], mappings: encode([...before, ...lines]) }
  map.sources = [...used.keys()]
  const bytes = Buffer.from(`${JSON.stringify(map)}\n`)
  return bytes.length > LIMITS.sourceMap ? null : bytes
}

/** Keeps every position in the author's files, one for each line of a package, and a single one for the library. */
function compactLine(
  line: readonly SourceMapSegment[],
  names: readonly string[],
  indexOf: (name: string) => number,
): SourceMapSegment[] {
  const kept: SourceMapSegment[] = []
  let last = ''
  for (const segment of line) {
    if (segment.length === 1) continue
    const [column, source, sourceLine, sourceColumn] = segment
    const name = names[source] ?? LIBRARY_SOURCE
    const isLibrary = name === LIBRARY_SOURCE
    const isPackage = isLibrary || name.startsWith('node_modules/')
    const key = isLibrary ? name : `${name}:${sourceLine}`
    if (isPackage && key === last) continue
    last = isPackage ? key : ''
    kept.push(isLibrary ? [column, indexOf(name), 0, 0] : [column, indexOf(name), sourceLine, sourceColumn])
  }
  return kept
}

/** The name of a file as its author knows it: `program.ts`, `lib/arm.ts`, `node_modules/mqtt/dist/client.js`. */
function nameOf(file: string, root: string, library: readonly string[]): string {
  const path = file.split(sep).join('/')
  const packages = path.lastIndexOf('/node_modules/')
  const inside = relative(root, file).split(sep).join('/')
  const isLibrary = library.some((folder) => file.startsWith(folder))
  if (isLibrary) return LIBRARY_SOURCE
  return packages >= 0 ? path.slice(packages + 1) : inside
}

function real(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    return path
  }
}
