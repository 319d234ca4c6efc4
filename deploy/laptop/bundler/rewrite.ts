/**
 * Rewrites a module so that it behaves in the bundle as it does in its own file: its path (`__dirname`, `import.meta.url`),
 * the files and workers that it finds by that path, and the sloppy mode of old CommonJS, which an ESM file does not have.
 */
import { statSync } from 'node:fs'
import { dirname, extname, join, resolve } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { encodedPath, logicalPath, placeStatement } from './logical.ts'
import { sloppyModule } from './sloppy.ts'

export interface Rewritten {
  text: string
  /** absolute paths of files that the module reads */
  assets: string[]
  /** absolute paths of modules that run as workers */
  workers: string[]
}

/** Whether a source uses its own path. */
export const asksPlace = (text: string): boolean => /\b__(?:dir|file)name\b|\bimport\.meta\b/.test(text)

/** Whether a source starts a worker. */
export const startsWorker = (text: string): boolean => /\bnew\s+(?:\w+\.)?Worker\(/.test(text)

const BY_URL = /\bnew\s+URL\(\s*(['"`])([^'"`$\\\n]+)\1\s*,\s*import\.meta\.url\s*\)/g
const BY_JOIN =
  /\b(?:join|resolve)\(\s*(?:__dirname|import\.meta\.dirname)((?:\s*,\s*(?:'[^'\\\n]*'|"[^"\\\n]*"))+)\s*\)/g
const BY_TEMPLATE = /`\$\{(?:__dirname|import\.meta\.dirname)\}\/([^`$\\\n]+)`/g
const BY_SUM = /(?:__dirname|import\.meta\.dirname)\s*\+\s*(['"])\/([^'"\\\n]+)\1/g
const BY_REQUIRE = /\b\w*[rR]equire\(\s*(['"])(\.{1,2}\/[^'"\\\n]+\.json)\1\s*\)/g
const WORKER = /(\bnew\s+(?:\w+\.)?Worker\(\s*)(['"`])([^'"`$\\\n]+)\2/g
const JOINED_WORKER =
  /(\bnew\s+(?:\w+\.)?Worker\(\s*)(?:\w+\.)?(?:join|resolve)\(\s*__dirname\s*,\s*(['"])([^'"\\\n]+)\2\s*\)/g
const OWN_WORKER =
  /(\bnew\s+(?:\w+\.)?Worker\(\s*)(?:__filename|import\.meta\.filename|(?:new\s+URL|fileURLToPath)\(\s*import\.meta\.url\s*\))/g
const CODE = /\.[cm]?[jt]sx?$/

/** `text` is the source of `file`. The result does not depend on the paths of this computer. */
export async function rewrite(root: string, file: string, text: string): Promise<Rewritten> {
  const folder = dirname(file)
  const assets = new Set<string>()
  const workers = new Set<string>()
  const asset = (path: string): void => {
    if (isRegular(path) && !CODE.test(path)) assets.add(path)
  }
  const worker = (path: string): string => {
    workers.add(path)
    return `new URL(${JSON.stringify(relativeUrl(root, file, path))},__medullaUrl)`
  }
  let changed = text.replace(BY_URL, (whole, _quote, specifier: string) => {
    const path = pathOf(file, specifier)
    if (path === null) return whole
    const code = CODE.test(path) ? codeFile(path) : null
    if (code !== null) return worker(code)
    asset(path)
    return whole
  })
  changed = changed.replace(BY_JOIN, (whole, list: string) => {
    const parts = [...list.matchAll(/'([^']*)'|"([^"]*)"/g)].map(([, single, double]) => single ?? double ?? '')
    const path = join(folder, ...parts)
    asset(path)
    return whole
  })
  for (const [, name = ''] of changed.matchAll(BY_TEMPLATE)) asset(join(folder, name))
  for (const [, , name = ''] of changed.matchAll(BY_SUM)) asset(join(folder, name))
  if (/\bcreateRequire\(/.test(changed)) {
    for (const [, , name = ''] of changed.matchAll(BY_REQUIRE)) asset(join(folder, name))
  }
  changed = changed.replace(OWN_WORKER, (_whole, start: string) => `${start}${worker(file)}`)
  changed = changed.replace(WORKER, (whole, start: string, _quote, path: string) => {
    // Node resolves the path from the working directory of the process; a program usually means its own folder
    const found = [folder, root].map((from) => codeFile(resolve(from, path))).find((code) => code !== null)
    return found == null ? whole : `${start}${worker(found)}`
  })
  changed = changed.replace(JOINED_WORKER, (whole, start: string, _quote, path: string) => {
    const found = codeFile(join(folder, path))
    return found === null ? whole : `${start}${worker(found)}`
  })
  const logical = logicalPath(root, file)
  const sloppy = /\.c?js$/.test(file) ? await sloppyModule(changed, logical) : null
  return { text: sloppy ?? placed(changed, logical), assets: [...assets], workers: [...workers] }
}

/** Puts the declaration into the first line, so that line numbers stay; a #! line becomes a comment. */
function placed(text: string, logical: string): string {
  if (!asksPlace(text) && !text.includes('__medullaUrl')) return text
  return `${placeStatement(logical)}${text.startsWith('#!') ? `//${text}` : text}`
}

/** Path of a worker's bundle below `files/`. */
export const workerName = (logical: string): string => logical.replace(CODE, '.worker.mjs')

function relativeUrl(root: string, from: string, worker: string): string {
  const up = '../'.repeat(logicalPath(root, from).split('/').length - 1)
  return `${up}./${encodedPath(workerName(logicalPath(root, worker)))}`
}

/** The file of a relative specifier; null for a URL or an absolute path. */
function pathOf(file: string, specifier: string): string | null {
  if (/^(?:[a-z][a-z0-9+.-]*:|\/)/i.test(specifier)) return null
  try {
    return fileURLToPath(new URL(specifier.replace(/[?#].*$/, ''), pathToFileURL(file)))
  } catch {
    return null
  }
}

/** The source file at a path, also if the path names its compiled form (.js for .ts); null if there is none. */
function codeFile(path: string): string | null {
  if (!CODE.test(path)) return null
  if (isRegular(path)) return path
  const source = path.slice(0, -extname(path).length) + extname(path).replace('js', 'ts')
  return isRegular(source) ? source : null
}

const isRegular = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false
