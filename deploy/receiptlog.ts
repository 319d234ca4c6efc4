/**
 * Invariant: a log that verifies is the robot's own, complete from its first entry to the head that is shown.
 *
 * Each entry is signed and holds the digest of the exact text of the one before. What this cannot see is a log cut off at
 * its end: compare the head with one that you noted earlier.
 */
import { createHash } from 'node:crypto'
import type { Receipt, SignedReceipt } from './api.ts'
import { fingerprint, verifyBase64 } from './bundle/sshsig.ts'
import { Refusal } from './errors.ts'

export const RECEIPT_NAMESPACE = 'receipt@medulla'
/** `prev` of the first entry. */
export const GENESIS = `sha256:${'0'.repeat(64)}`

export interface Head {
  /** 0 for an empty log */
  seq: number
  digest: string
}
export interface LogProblem {
  /** counts from 1, of the lines that were given */
  line: number
  message: string
}
export type LogVerdict = { entries: number; head: Head } & ({ ok: true } | { ok: false; problem: LogProblem })

export interface VerifyOptions {
  /** The lines are the last ones of a log, so the first entry need not be its first. */
  partial?: boolean
  /** A head noted earlier: it must be in the log. Ignored for a partial log that begins after it. */
  seen?: Head
}

export function receiptDigest(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`
}

/** The fields that chain and attribute an entry, of one NDJSON line. Throws Refusal `bad-bundle`. Checks no signature. */
export function parseEntry(line: string): { signed: SignedReceipt; receipt: Receipt } {
  const signed = readObject(line, 'the line') as Partial<SignedReceipt>
  const { receipt: text, sig } = signed
  if (typeof text !== 'string' || typeof sig !== 'string' || Object.keys(signed).length !== 2) {
    throw new Refusal('bad-bundle', 'expected {"receipt": …, "sig": …}')
  }
  const receipt = readObject(text, 'the receipt') as Partial<Receipt>
  if (receipt.format !== 'medulla-receipt/1') {
    throw new Refusal('unknown-format', `expected format medulla-receipt/1, got ${String(receipt.format).slice(0, 64)}`)
  }
  const { seq, prev, robot, time, slot, outcome } = receipt
  if (!Number.isSafeInteger(seq) || (seq ?? 0) < 1 || !/^sha256:[0-9a-f]{64}$/.test(String(prev))) {
    throw new Refusal('bad-bundle', 'expected a sequence number and the digest of the entry before')
  }
  if ([robot, time, slot, outcome].some((field) => typeof field !== 'string')) {
    throw new Refusal('bad-bundle', 'expected robot, time, slot and outcome')
  }
  return { signed: { receipt: text, sig }, receipt: receipt as Receipt }
}

function readObject(text: string, what: string): object {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value
  } catch {}
  throw new Refusal('bad-bundle', `${what} is not a JSON object`)
}

/** `lines` are NDJSON of SignedReceipt, oldest first; `robotPublicKey` is `ssh-ed25519 …` of the robot's certificate. */
export function verifyLog(lines: readonly string[], robotPublicKey: string, opts: VerifyOptions = {}): LogVerdict {
  let head: Head = { seq: 0, digest: GENESIS }
  let first = 1
  for (const [index, line] of lines.entries()) {
    const fail = (message: string): LogVerdict => ({
      ok: false,
      entries: index,
      head,
      problem: { line: index + 1, message },
    })
    try {
      const { signed, receipt } = parseEntry(line)
      const { publicKey, fingerprint: by } = verifyBase64(signed.sig, RECEIPT_NAMESPACE, Buffer.from(signed.receipt))
      if (publicKey !== robotPublicKey) return fail(`signed by ${by}, expected ${fingerprint(robotPublicKey)}`)
      if (receipt.robot !== fingerprint(robotPublicKey)) return fail(`names robot ${receipt.robot}, not its signer`)
      if (index === 0 && opts.partial === true) {
        first = receipt.seq
      } else {
        if (receipt.seq !== head.seq + 1) return fail(`has number ${receipt.seq}, expected ${head.seq + 1}`)
        if (receipt.prev !== head.digest) return fail(`follows ${receipt.prev}, expected ${head.digest}`)
      }
      head = { seq: receipt.seq, digest: receiptDigest(signed.receipt) }
      if (opts.seen?.seq === head.seq && opts.seen.digest !== head.digest) {
        return fail(`is ${head.digest}, but ${opts.seen.digest} was seen earlier`)
      }
    } catch (error) {
      if (error instanceof Refusal) return fail(error.message)
      throw error
    }
  }
  if (opts.seen !== undefined && opts.seen.seq >= first && opts.seen.seq > head.seq) {
    const message = `the log ends at number ${head.seq}, but number ${opts.seen.seq} was seen earlier`
    return { ok: false, entries: lines.length, head, problem: { line: lines.length + 1, message } }
  }
  return { ok: true, entries: lines.length, head }
}
