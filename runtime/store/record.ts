/**
 * Records on disk, as JSON that people can read. Invariant: a record is read back as it was written, or refused, because it has
 * the hash of its own content (test/runtime/store/slots.test.ts). The hash detects damage, not an attacker, who could write a
 * new one.
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { Refusal } from '../../deploy/shared/errors.ts'

export function sha256(bytes: string | Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}

export function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT'
}

export function encodeRecord(record: { format: string }): string {
  return `${JSON.stringify({ ...record, sum: sha256(JSON.stringify(record)) }, null, 2)}\n`
}

/** Throws Refusal `bad-hash` when a byte was changed, `unknown-format` when another version wrote it. */
export function decodeRecord<T extends { format: string }>(text: string, format: T['format'], what: string): T {
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch (cause) {
    throw new Refusal('bad-hash', `${what} was changed on disk: it is not JSON`, undefined, { cause })
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw new Refusal('bad-hash', `${what} was changed on disk: it is not an object`)
  }
  const { sum, ...record } = parsed as { format?: unknown; sum?: unknown }
  const actual = sha256(JSON.stringify(record))
  // The text is compared, too: a byte changed in white space or spelling must not pass.
  if (sum !== actual || text !== encodeRecord(record as T)) {
    throw new Refusal('bad-hash', `${what} was changed on disk: expected ${String(sum)}, got ${actual}`)
  }
  if (record.format !== format) {
    throw new Refusal('unknown-format', `${what} has format ${String(record.format)}, expected ${format}`)
  }
  return record as T
}

/** Null when there is no file. */
export async function readRecord<T extends { format: string }>(path: string, format: T['format']): Promise<T | null> {
  try {
    return decodeRecord<T>(await readFile(path, 'utf8'), format, path)
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}
