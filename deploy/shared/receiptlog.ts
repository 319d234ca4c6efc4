/**
 * Verifies the robot's log of receipts. Invariant: entries that verify were signed by the robot, without a gap from the first
 * given entry to the returned head, and contain the heads that are already known (HANDOVER 8.20;
 * test/runtime/store/receipts.test.ts).
 *
 * Each entry is signed, and has its number and the digest of the exact text of the entry before. The entries alone cannot show
 * that the end of a log is missing: the head that was seen earlier, or that the robot reports, shows it.
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
  /** number of the line, from 1 */
  line: number
  message: string
  /** The lines are valid, but begin too late to show that they continue the head seen earlier. */
  unproven?: true
}
/** `first` is the number of the first entry. */
export type LogVerdict = { entries: number; first: number; head: Head } & (
  | { ok: true }
  | { ok: false; problem: LogProblem }
)

export interface VerifyOptions {
  /** The lines are the end of a log: their first entry need not be number 1. */
  partial?: boolean
  /** A head that was seen earlier: the log must contain it, or begin right after it. */
  seen?: Head
  /** The head that the robot reports: the log must reach it. */
  reported?: Head
}

export function receiptDigest(text: string): string {
  return `sha256:${createHash('sha256').update(text).digest('hex')}`
}

/**
 * Parses one NDJSON line, and checks the fields that chain an entry and name its robot. Does not verify the signature.
 * Throws Refusal `bad-bundle`.
 */
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
    { head: opts.seen, origin: 'was seen earlier' },
    { head: opts.reported, origin: 'is what the robot reports' },
  ].flatMap(({ head, origin }) => (head === undefined ? [] : [{ ...head, origin }]))
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
        if (before !== undefined) return fail(`follows ${receipt.prev}, but ${before.digest} ${before.origin}`)
      } else {
        if (receipt.seq !== head.seq + 1) return fail(`has number ${receipt.seq}, expected ${head.seq + 1}`)
        if (receipt.prev !== head.digest) return fail(`follows ${receipt.prev}, expected ${head.digest}`)
      }
      head = { seq: receipt.seq, digest: receiptDigest(signed.receipt) }
      const other = heads.find(({ seq, digest }) => seq === head.seq && digest !== head.digest)
      if (other !== undefined) return fail(`is ${head.digest}, but ${other.digest} ${other.origin}`)
    } catch (error) {
      if (error instanceof Refusal) return fail(error.message)
      throw error
    }
  }
  const end = (message: string, unproven?: true): LogVerdict => {
    const problem = { line: lines.length + 1, message, ...(unproven && { unproven }) }
    return { ok: false, entries: lines.length, first, head, problem }
  }
  for (const { seq, origin } of heads) {
    if (seq > head.seq) return end(`is missing: the log ends at number ${head.seq}, but number ${seq} ${origin}`)
    if (seq < first - 1)
      return end(`ends a log that begins at number ${first}, after number ${seq}, which ${origin}`, true)
  }
  return { ok: true, entries: lines.length, first, head }
}
