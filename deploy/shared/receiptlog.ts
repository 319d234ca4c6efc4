/**
 * Invariant: a log, or the end of one, that verifies is the robot's own, without a gap from the first entry that was given
 * to the head that is shown, and contains the heads that are known otherwise (HANDOVER 8.20; test/store/receipts.test.ts).
 *
 * Each entry is signed and holds its number and the digest of the exact text of the one before. A log that was cut off at
 * its end has no mark of that: it is the head seen earlier, and the one that the robot reports, that show it.
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
  /** Nothing is wrong with the lines: they begin too late to show that they continue the head seen earlier. */
  unproven?: true
}
/** `first` is the number of the first entry. */
export type LogVerdict = { entries: number; first: number; head: Head } & (
  | { ok: true }
  | { ok: false; problem: LogProblem }
)

export interface VerifyOptions {
  /** The lines are the last ones of a log, so the first entry need not be its first. */
  partial?: boolean
  /** A head noted earlier: it must be in the log, or what the first line follows. */
  seen?: Head
  /** What the robot says is its head: the log must reach it. */
  reported?: Head
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
  const heads = [
    { head: opts.seen, means: 'was seen earlier' },
    { head: opts.reported, means: 'is what the robot reports' },
  ].flatMap(({ head, means }) => (head === undefined ? [] : [{ ...head, means }]))
  for (const [index, line] of lines.entries()) {
    const fail = (message: string): LogVerdict => ({
      ok: false,
      entries: index,
      first,
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
        const before = heads.find(({ seq, digest }) => seq === first - 1 && digest !== receipt.prev)
        if (before !== undefined) return fail(`follows ${receipt.prev}, but ${before.digest} ${before.means}`)
      } else {
        if (receipt.seq !== head.seq + 1) return fail(`has number ${receipt.seq}, expected ${head.seq + 1}`)
        if (receipt.prev !== head.digest) return fail(`follows ${receipt.prev}, expected ${head.digest}`)
      }
      head = { seq: receipt.seq, digest: receiptDigest(signed.receipt) }
      const other = heads.find(({ seq, digest }) => seq === head.seq && digest !== head.digest)
      if (other !== undefined) return fail(`is ${head.digest}, but ${other.digest} ${other.means}`)
    } catch (error) {
      if (error instanceof Refusal) return fail(error.message)
      throw error
    }
  }
  const end = (message: string, unproven?: true): LogVerdict => {
    const problem = { line: lines.length + 1, message, ...(unproven && { unproven }) }
    return { ok: false, entries: lines.length, first, head, problem }
  }
  for (const { seq, means } of heads) {
    if (seq > head.seq) return end(`is missing: the log ends at number ${head.seq}, but number ${seq} ${means}`)
    if (seq < first - 1) return end(`ends what begins at number ${first}, after number ${seq}, which ${means}`, true)
  }
  return { ok: true, entries: lines.length, first, head }
}
