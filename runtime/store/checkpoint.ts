/**
 * Invariant: a checkpoint is read back as it was written, or refused (test/runtime/store/slots.test.ts).
 *
 * The file: `medulla-checkpoint/1 <hex SHA-256 of all that follows>\n<header JSON>\n<state bytes>`.
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { setImmediate as turn } from 'node:timers/promises'
import { Refusal } from '../../deploy/shared/errors.ts'
import { writeAtomic } from './atomic.ts'
import { isMissing } from './record.ts'

export interface Checkpoint {
  program: string
  stateVersion: number
  encoding: 'json' | 'bytes'
  time: string
  bytes: Uint8Array
}

const MAGIC = 'medulla-checkpoint/1 '
const FIRST_LINE = MAGIC.length + 64 + 1

/** Bytes hashed between two turns of the event loop: 2 to 5 ms on a small board. */
const SLICE = 512 * 1024

async function digest(...parts: readonly Uint8Array[]): Promise<string> {
  const hash = createHash('sha256')
  for (const part of parts) {
    for (let at = 0; at < part.length; at += SLICE) {
      hash.update(part.subarray(at, at + SLICE))
      if (part.length > SLICE) await turn()
    }
  }
  return hash.digest('hex')
}

export async function writeCheckpoint(path: string, checkpoint: Checkpoint): Promise<void> {
  const { bytes, ...header } = checkpoint
  const head = Buffer.from(`${JSON.stringify(header)}\n`)
  const first = Buffer.from(`${MAGIC}${await digest(head, bytes)}\n`)
  // In parts, because concatenating would copy up to 64 MiB.
  await writeAtomic(path, [first, head, bytes])
}

/** Null when there is no file. Throws Refusal `bad-state` when the file was changed on disk. */
export async function readCheckpoint(path: string): Promise<Checkpoint | null> {
  let file: Buffer
  try {
    file = await readFile(path)
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
  const rest = file.subarray(FIRST_LINE)
  const expected = `${MAGIC}${await digest(rest)}\n`
  const got = file.subarray(0, FIRST_LINE).toString('latin1')
  if (got !== expected) throw new Refusal('bad-state', `the checkpoint ${path} was changed on disk`)
  const end = rest.indexOf(10)
  const header = JSON.parse(rest.subarray(0, end).toString('utf8')) as Omit<Checkpoint, 'bytes'>
  return { ...header, bytes: new Uint8Array(rest.buffer, rest.byteOffset + end + 1, rest.length - end - 1) }
}
