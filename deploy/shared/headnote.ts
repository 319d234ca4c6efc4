/**
 * A note about the head of a robot's log, which anybody may sign as a witness: the text of a checkpoint (C2SP tlog-checkpoint: a line
 * with the name of the log, its size, the hash of its last entry), and beside it a signature that `ssh-keygen -Y verify` checks
 * (BUNDLE 18).
 */
import { Refusal } from './errors.ts'
import type { Head } from './receiptlog.ts'

/** What the signature of a witness is for. */
export const HEAD_NAMESPACE = 'head@medulla'
export const MAX_HEAD_NOTE = 1024

export interface HeadNote extends Head {
  /** the robot's id, `SHA256:…` */
  robot: string
}

const NOTE = /^medulla receipts of (SHA256:[A-Za-z0-9+/]{43})\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n$/

export function encodeHeadNote({ robot, seq, digest }: HeadNote): string {
  const hash = Buffer.from(digest.replace(/^sha256:/, ''), 'hex').toString('base64')
  return `medulla receipts of ${robot}\n${seq}\n${hash}\n`
}

/** Throws Refusal `bad-bundle` on anything that encodeHeadNote() would not write. */
export function parseHeadNote(text: string): HeadNote {
  const [, robot = '', seq, hash = ''] = NOTE.exec(text) ?? []
  const note = { robot, seq: Number(seq), digest: `sha256:${Buffer.from(hash, 'base64').toString('hex')}` }
  if (!Number.isSafeInteger(note.seq) || encodeHeadNote(note) !== text) {
    throw new Refusal('bad-bundle', 'expected a note of three lines: the log of a robot, its length, its last hash')
  }
  return note
}
