/** Where in its author's files a simulated program has thrown: it runs from a bundle, or as a test runner has loaded it. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { compactMap } from '../../deploy/shared/sourcemap.ts'
import { type Explained, explain, type FindMap, thrownBy } from '../../deploy/shared/stack.ts'

interface Bundle {
  /** esbuild's, of the program without its first `shift` lines */
  readonly map: string
  readonly shift: number
  /** folder of the program */
  readonly root: string
  /** files that `medulla` and `medulla/drivers` mean */
  readonly library: readonly string[]
}

const OWN = [new URL('../', import.meta.url).href, new URL('../../drivers/', import.meta.url).href]
/** Programs that are remembered: each has a map of some 200 KB. */
const MOST = 32
const bundles = new Map<string, Bundle>()

/** Its file is removed when it is loaded. */
export function remember(url: string, bundle: Bundle): void {
  bundles.set(url, bundle)
  const [oldest] = bundles.keys()
  if (bundles.size > MOST && oldest !== undefined) bundles.delete(oldest)
}

export function explained(error: unknown): Explained {
  return explain(thrownBy(error), mapOf)
}

/** The error with a stack of the author's own files in the place of that of the bundle. */
export function placed(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const { stack, place } = explained(error)
  if (place !== null) error.stack = stack
  return error
}

function mapOf(file: string): ReturnType<FindMap> {
  const url = file.startsWith('/') ? `file://${file}` : file
  if (!url.startsWith('file:')) return undefined
  const bundle = bundles.get(url)
  if (bundle !== undefined) return compacted(bundle)
  if (OWN.some((own) => url.startsWith(own)) || url.includes('/node_modules/')) return undefined
  const path = fileURLToPath(url.replace(/\?.*$/, ''))
  try {
    return readFileSync(`${path}.map`, 'utf8')
  } catch {
    // a test runner has looked up the places already
    return { root: [...bundles.values()].find(({ root }) => path.startsWith(`${root}/`))?.root ?? process.cwd() }
  }
}

function compacted({ map, shift, root, library }: Bundle): string | null {
  const bytes = compactMap(map, { root, library, shift })
  return bytes === null ? null : Buffer.from(bytes).toString()
}
