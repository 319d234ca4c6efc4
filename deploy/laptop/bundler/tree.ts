/** The files of a payload as files on disk. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { TreeFile } from '../../shared/bundle/h1.ts'

/** `folder` is there; the files are not. For the owner alone. */
export function writeTree(folder: string, files: readonly TreeFile[]): void {
  for (const { name, bytes } of files) {
    const path = join(folder, name)
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    writeFileSync(path, bytes, { mode: 0o600, flag: 'wx' })
  }
}
