/** Maps errors of simulated programs to places in the author's files, from a bundle or from what the test runner loaded. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { compactMap } from '../../deploy/shared/sourcemap.ts'
import { type Explained, explain, type FindMap, thrownBy } from '../../deploy/shared/stack.ts'

interface Bundle {
  /** esbuild's source map, for the bundle without its first `shift` lines */
  readonly map: string
  readonly shift: number
  /** folder of the program */
  readonly root: string
  /** files that the imports `medulla` and `medulla/drivers` resolve to */
  readonly library: readonly string[]
}

const OWN = [new URL('../', import.meta.url).href, new URL('../../drivers/', import.meta.url).href]
/** So many bundles are remembered, as each has a map of about 200 KB. */
const MOST = 32
const bundles = new Map<string, Bundle>()

/** Remembers the bundle loaded from `url`. */
export function rememberBundle(url: string, bundle: Bundle): void {
  bundles.set(url, bundle)
  const [oldest] = bundles.keys()
  if (bundles.size > MOST && oldest !== undefined) bundles.delete(oldest)
}

export function explainError(error: unknown): Explained {
  return explain(thrownBy(error), mapOf)
}

/** Replaces the error's stack by one with places in the author's files. */
export function withAuthorStack(error: unknown): unknown {
  if (!(error instanceof Error)) return error
  const { stack, place } = explainError(error)
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
    // no map: the test runner has already mapped the places in the stack
    return { root: [...bundles.values()].find(({ root }) => path.startsWith(`${root}/`))?.root ?? process.cwd() }
  }
}

function compacted({ map, shift, root, library }: Bundle): string | null {
  const bytes = compactMap(map, { root, library, shift })
  return bytes === null ? null : Buffer.from(bytes).toString()
}
