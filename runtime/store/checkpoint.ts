/**
 * Invariant: a state that is loaded is a state that a program wrote, whole, with the version it wrote it for.
 *
 * One file: `medulla-checkpoint/1 <hex SHA-256 of all that follows>\n<header JSON>\n<state bytes>`.
 */
import { webcrypto } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { Refusal } from '../../deploy/errors.ts'
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

/** Off the event loop: 1 MB takes milliseconds on a small board. */
async function digest(bytes: Uint8Array): Promise<string> {
  return Buffer.from(await webcrypto.subtle.digest('SHA-256', bytes)).toString('hex')
}

export async function writeCheckpoint(path: string, checkpoint: Checkpoint): Promise<void> {
  const { bytes, ...header } = checkpoint
  const rest = Buffer.concat([Buffer.from(`${JSON.stringify(header)}\n`), bytes])
  await writeAtomic(path, Buffer.concat([Buffer.from(`${MAGIC}${await digest(rest)}\n`), rest]))
}

/** Null when there is no file. Throws Refusal `bad-state` when it is not what was written. */
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
  return { ...header, bytes: new Uint8Array(rest.subarray(end + 1)) }
}
