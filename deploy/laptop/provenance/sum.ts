/**
 * medulla.sum: the hash of every module version that a program was ever built with. Invariant: a line is only added; a build
 * with other files than those recorded is refused before any of them runs (BUNDLE 15; test/deploy/laptop/sum.test.ts).
 */
import { appendFile, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Refusal } from '../../shared/errors.ts'
import { checkHash } from '../buildinfo.ts'
import type { Module } from './modules.ts'

export const SUM_FILE = 'medulla.sum'

/** The recorded hashes by `name version`. Throws `build-failed` for a damaged file, and `unknown-format` for an unknown hash. */
export async function readSum(folder: string): Promise<{ rows: Map<string, string>; text: string }> {
  const path = join(folder, SUM_FILE)
  const text = await readFile(path, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return ''
    throw new Refusal('build-failed', `${path}: ${cause.message}`, undefined, { cause })
  })
  const rows = new Map<string, string>()
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue
    const where = `${SUM_FILE} line ${index + 1}`
    const [name, version, hash, ...more] = line.trimEnd().split(' ')
    if (!name || !version || !hash || more.length > 0) {
      throw new Refusal(
        'build-failed',
        `${where}: expected the name of a module, its version and its hash, got ${JSON.stringify(line.slice(0, 80))}`,
        `take ${path} from your version control`,
      )
    }
    const key = `${name} ${version}`
    const known = rows.get(key)
    checkHash(hash, where)
    if (known !== undefined && known !== hash) {
      throw new Refusal(
        'build-failed',
        `${where}: ${name} ${version} is recorded twice, as ${known} and as ${hash}`,
        `take ${path} from your version control`,
      )
    }
    rows.set(key, hash)
  }
  return { rows, text }
}

/** Compares modules with the recorded ones, and records those that are new. Rows of other modules are ignored. */
export async function checkSum(folder: string, modules: readonly Module[]): Promise<void> {
  if (modules.length === 0) return
  const { rows, text } = await readSum(folder)
  const added: string[] = []
  for (const { name, version, h1 } of modules) {
    const recorded = rows.get(`${name} ${version}`)
    if (recorded === undefined) added.push(`${name} ${version} ${h1}\n`)
    else if (recorded !== h1) throw mismatch(`${name}@${version}`, h1, recorded)
  }
  if (added.length === 0) return
  const path = join(folder, SUM_FILE)
  try {
    // one write at the end of the file: a second build at the same time removes no line
    await appendFile(path, `${text === '' || text.endsWith('\n') ? '' : '\n'}${added.join('')}`)
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause)
    throw new Refusal('build-failed', `cannot record ${added.length} modules: ${message}`, undefined, { cause })
  }
}

/** The names of the fields stand in one column, so that the eye compares the hashes. */
function mismatch(id: string, downloaded: string, recorded: string): Refusal {
  return new Refusal(
    'build-failed',
    `${id} has other files than those recorded in ${SUM_FILE}\n  downloaded: ${downloaded}\n  recorded:   ${recorded}`,
    'medulla verify names the files; npm ci downloads all modules again',
  )
}
