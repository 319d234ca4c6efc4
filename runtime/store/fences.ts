/**
 * Invariant: no fencing number is given out twice, also after a restart or a power cut (test/runtime/store/slots.test.ts).
 *
 * Numbers are reserved on disk in blocks before they are used; a restart loses the rest of a block.
 */
import { Refusal } from '../../deploy/shared/errors.ts'
import { writeAtomic } from './atomic.ts'
import { encodeRecord } from './record.ts'

export const FENCE_BLOCK = 1000

export interface FencesFile {
  format: 'medulla-fences/1'
  /** Every number up to this one may have been used. */
  high: number
}

export class Fences {
  readonly #path: string
  #last: number
  #high: number
  #reserving: Promise<void> | null = null

  private constructor(path: string, last: number) {
    this.#path = path
    this.#last = last
    this.#high = last
  }

  /** `used`: the highest number that may have been given out before. */
  static async open(path: string, used: number): Promise<Fences> {
    const fences = new Fences(path, used)
    await fences.#reserve()
    return fences
  }

  /** The highest number that may have been given out. */
  get high(): number {
    return this.#high
  }

  /** A number higher than all before. Throws Refusal `internal` when the disk has refused new blocks for 500 numbers. */
  next(): number {
    if (this.#last >= this.#high)
      throw new Refusal('internal', 'no fencing number is left: a new block cannot be written to disk')
    this.#last += 1
    // Once half a block is used, each call tries to reserve: a full disk may have space again.
    if (this.#high - this.#last < FENCE_BLOCK / 2)
      this.#reserving ??= this.#reserve()
        .catch(() => {})
        .finally(() => {
          this.#reserving = null
        })
    return this.#last
  }

  /** Resolves when no reservation is being written. */
  async settled(): Promise<void> {
    await this.#reserving
  }

  async #reserve(): Promise<void> {
    const file: FencesFile = { format: 'medulla-fences/1', high: this.#last + FENCE_BLOCK }
    await writeAtomic(this.#path, encodeRecord(file))
    this.#high = Math.max(this.#high, file.high)
  }
}
