/** Writes the files of a payload to disk. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { TreeFile } from '../../shared/bundle/h1.ts'

/** `folder` must exist, and the files must not. Only their owner can read them. */
export function writeTree(folder: string, files: readonly TreeFile[]): void {
  for (const { name, bytes } of files) {
    const path = join(folder, name)
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    writeFileSync(path, bytes, { mode: 0o600, flag: 'wx' })
  }
}
