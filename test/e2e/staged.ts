/** Finds the files in which a robot's endpoint stages opened bundles (HANDOVER 8.16), by the name of its home. */
import { createHash } from 'node:crypto'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

const MEMORY = '/dev/shm'

/** Names of the files that are not empty. */
export function staged(home: string): string[] {
  const prefix = `medulla-${createHash('sha256').update(home).digest('hex').slice(0, 16)}-`
  const folders = readdirSync(MEMORY).filter((name) => name.startsWith(prefix))
  if (folders.length !== 1) throw new Error(`expected one folder of a runtime over ${home}, found ${folders.length}`)
  const folder = join(MEMORY, folders[0] ?? '', 'endpoint')
  const files = readdirSync(folder).filter((name) => name.endsWith('.tar'))
  if (files.length === 0) throw new Error(`there is nothing to stage a bundle in: ${folder}`)
  return files.filter((name) => statSync(join(folder, name)).size > 0)
}
