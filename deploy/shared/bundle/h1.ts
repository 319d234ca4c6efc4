/**
 * The tree hash `h1:` of Go's dirhash: two trees have the same hash only if their names and bytes are the same
 * (BUNDLE 5.6).
 */
import { createHash } from 'node:crypto'
import { Refusal } from '../errors.ts'

export interface TreeFile {
  name: string
  bytes: Uint8Array
}

export function treeHash(files: readonly TreeFile[]): string {
  return treeHashOf(files.map(({ name, bytes }) => [name, createHash('sha256').update(bytes).digest('hex')]))
}

/** The same, from the names of the files and their SHA-256 in hex. */
export function treeHashOf(files: readonly (readonly [name: string, sha256: string])[]): string {
  const lines: { name: Buffer; line: string }[] = []
  for (const [name, hex] of files) {
    // with a newline in a name, two trees could have the same hash (BUNDLE 5.6)
    if (name.includes('\n')) throw new Refusal('bad-bundle', 'tree hash: a file name contains a newline')
    lines.push({ name: Buffer.from(name), line: `${hex}  ${name}\n` })
  }
  lines.sort((a, b) => Buffer.compare(a.name, b.name))
  const sum = createHash('sha256')
  for (const { line } of lines) sum.update(line)
  return `h1:${sum.digest('base64')}`
}
