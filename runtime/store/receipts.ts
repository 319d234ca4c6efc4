/**
 * The receipt log. Invariant: it only grows, each entry is signed and has the hash of the one before, and an entry is on disk
 * before `append` resolves (test/runtime/store/receipts.test.ts).
 */
import { type FileHandle, open, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Receipt, SignedReceipt } from '../../deploy/shared/api.ts'
import { toBase64 } from '../../deploy/shared/bundle/sshsig.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import type { Signer } from '../../deploy/shared/keys.ts'
import { GENESIS, type Head, parseEntry, RECEIPT_NAMESPACE, receiptDigest } from '../../deploy/shared/receiptlog.ts'
import { syncDir } from './atomic.ts'

export type ReceiptFields = Omit<Receipt, 'format' | 'seq' | 'prev' | 'robot' | 'time'>

/** Bytes of the longest entry; callers cut reasons to far less. */
const MAX_ENTRY = 64 * 1024
const CHUNK = 64 * 1024
const NEWLINE = 10

export class Receipts {
  readonly #file: FileHandle
  readonly #signer: Signer
  readonly #now: () => Date
  #head: Head
  #length: number
  #last: Promise<unknown> = Promise.resolve()
  /** For the log: damage that `open` found, and what it did about it. */
  readonly problems: string[]

  private constructor(
    file: FileHandle,
    signer: Signer,
    now: () => Date,
    state: { head: Head; length: number; problems: string[] },
  ) {
    this.#file = file
    this.#signer = signer
    this.#now = now
    this.#head = state.head
    this.#length = state.length
    this.problems = state.problems
  }

  /**
   * Opens `<home>/receipts.ndjson`. A last line without a newline was cut short by a kill before its `append` resolved, and is
   * removed. When the last whole line is damaged, the log is renamed, and a new one begins: the robot must be able to write
   * receipts.
   */
  static async open(
    home: { readonly dir: string; readonly signer: Signer },
    now = () => new Date(),
  ): Promise<Receipts> {
    const path = join(home.dir, 'receipts.ndjson')
    const problems: string[] = []
    let file = await open(path, 'a+', 0o600)
    try {
      const length = await wholeLength(file)
      const torn = (await file.stat()).size - length
      if (torn > 0) {
        await file.truncate(length)
        await file.sync()
        problems.push(`receipts: ${torn} bytes of an unfinished entry were cut off`)
      }
      const line = (await lastLines(file, length, 1))[0]
      await syncDir(dirname(path))
      if (line === undefined)
        return new Receipts(file, home.signer, now, { head: { seq: 0, digest: GENESIS }, length, problems })
      try {
        const { signed, receipt } = parseEntry(line)
        const head = { seq: receipt.seq, digest: receiptDigest(signed.receipt) }
        return new Receipts(file, home.signer, now, { head, length, problems })
      } catch (error) {
        if (!(error instanceof Refusal)) throw error
        await file.close()
        const aside = `${path}.damaged-${now().getTime()}`
        await rename(path, aside)
        problems.push(`receipts: the last entry is damaged (${error.message}); the log was kept as ${aside}`)
        file = await open(path, 'ax+', 0o600)
        await syncDir(dirname(path))
        return new Receipts(file, home.signer, now, { head: { seq: 0, digest: GENESIS }, length: 0, problems })
      }
    } catch (error) {
      await file.close().catch(() => {})
      throw error
    }
  }

  /** Number and digest of the newest entry; seq 0: the log is empty. */
  head(): Head {
    return { ...this.#head }
  }

  /** On disk when it resolves. Entries are in the order of the calls. */
  append(fields: ReceiptFields): Promise<Receipt> {
    const next = this.#last.then(() => this.#append(fields))
    this.#last = next.catch(() => {})
    return next
  }

  /** Resolves when every entry so far is on disk, or has failed. */
  async settle(): Promise<void> {
    await this.#last
  }

  /** The newest `limit` lines, oldest first, as they are on disk. */
  async lines(limit: number): Promise<string[]> {
    await this.#last
    return await lastLines(this.#file, this.#length, limit)
  }

  /**
   * The newest `limit` entries, oldest first. A damaged line is returned as it is, without a signature: the reader's
   * verification finds where the log is broken.
   */
  async read(limit: number): Promise<SignedReceipt[]> {
    return (await this.lines(limit)).map((line) => {
      try {
        return parseEntry(line).signed
      } catch {
        return { receipt: line, sig: '' }
      }
    })
  }

  async close(): Promise<void> {
    await this.#last
    await this.#file.close()
  }

  async #append(fields: ReceiptFields): Promise<Receipt> {
    const receipt: Receipt = {
      format: 'medulla-receipt/1',
      seq: this.#head.seq + 1,
      prev: this.#head.digest,
      robot: this.#signer.fingerprint,
      time: this.#now().toISOString(),
      ...fields,
    }
    const text = JSON.stringify(receipt)
    const signed: SignedReceipt = {
      receipt: text,
      sig: toBase64(await this.#signer.sign(RECEIPT_NAMESPACE, Buffer.from(text))),
    }
    const line = Buffer.from(`${JSON.stringify(signed)}\n`)
    if (line.length > MAX_ENTRY)
      throw new Refusal('internal', `a receipt has ${line.length} bytes, at most ${MAX_ENTRY} are allowed`)
    try {
      await this.#file.writeFile(line)
      await this.#file.datasync()
    } catch (error) {
      // On a full disk, part of the line may be written: the next entry must not follow it.
      await this.#file.truncate(this.#length)
      throw error
    }
    this.#length += line.length
    this.#head = { seq: receipt.seq, digest: receiptDigest(text) }
    return receipt
  }
}

/** The length up to and including the last newline. */
async function wholeLength(file: FileHandle): Promise<number> {
  let end = (await file.stat()).size
  while (end > 0) {
    const chunk = await readAt(file, Math.max(0, end - CHUNK), end)
    const newline = chunk.lastIndexOf(NEWLINE)
    if (newline >= 0) return end - chunk.length + newline + 1
    end -= chunk.length
  }
  return 0
}

/** Reads backwards, so that the time does not grow with the log. The byte before `length` is a newline. */
async function lastLines(file: FileHandle, length: number, count: number): Promise<string[]> {
  let start = length
  let newlines = 0
  const chunks: Buffer[] = []
  // One more newline than lines marks the beginning of the first line.
  while (start > 0 && newlines <= count) {
    const chunk = await readAt(file, Math.max(0, start - CHUNK), start)
    start -= chunk.length
    for (const byte of chunk) if (byte === NEWLINE) newlines += 1
    chunks.unshift(chunk)
  }
  const lines = Buffer.concat(chunks).toString('utf8').split('\n').slice(0, -1)
  return lines.slice(Math.max(0, lines.length - count))
}

async function readAt(file: FileHandle, from: number, to: number): Promise<Buffer> {
  const bytes = Buffer.alloc(to - from)
  let at = 0
  while (at < bytes.length) {
    const { bytesRead } = await file.read(bytes, at, bytes.length - at, from + at)
    if (bytesRead === 0) throw new Refusal('internal', 'the receipt log became shorter while it was read')
    at += bytesRead
  }
  return bytes
}
