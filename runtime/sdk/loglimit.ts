/** Limits the lines that a program logs, because the body pauses reading a program that sends too much (HANDOVER 9.4). */

const PER_SECOND = 500
const BURST = 2000

export class LogLimit {
  #left = BURST
  /** ms, of performance.now() */
  #at = 0
  #dropped = 0

  /** Whether one more line may be sent. If not, it counts as dropped. */
  take(): boolean {
    const now = performance.now()
    this.#left = Math.min(BURST, this.#left + ((now - this.#at) / 1000) * PER_SECOND)
    this.#at = now
    const may = this.#left >= 1
    if (may) this.#left--
    else this.#dropped++
    return may
  }

  /** How many lines were dropped since the last call. */
  takeDropped(): number {
    const dropped = this.#dropped
    this.#dropped = 0
    return dropped
  }
}
