/** Invariant: the simulated world knows no time but that of its clock. */
import type { Clock } from '../../clock.ts'

/** A clock that stands still until it is told to go on. */
export class VirtualClock implements Clock {
  #now: bigint
  /** In order of time, then of asking. */
  readonly #calls: { readonly at: bigint; readonly call: () => void }[] = []

  constructor(start = 0n) {
    this.#now = start
  }

  now(): bigint {
    return this.#now
  }

  after(ns: bigint, call: () => void): () => void {
    const entry = { at: this.#now + ns, call }
    let place = this.#calls.length
    while (place > 0 && (this.#calls[place - 1] as typeof entry).at > entry.at) place--
    this.#calls.splice(place, 0, entry)
    return () => {
      const found = this.#calls.indexOf(entry)
      if (found >= 0) this.#calls.splice(found, 1)
    }
  }

  /** When the next call falls due. */
  get due(): bigint | null {
    return this.#calls[0]?.at ?? null
  }

  /** Goes to `at` and makes the first call that is due there, if any. False when there was none. */
  step(at: bigint): boolean {
    const next = this.#calls[0]
    if (next === undefined || next.at > at) {
      this.#now = at
      return false
    }
    this.#calls.shift()
    this.#now = next.at
    next.call()
    return true
  }

  /** Runs what falls due, in order of time, each at its own time. */
  advance(ns: bigint): void {
    const end = this.#now + ns
    while (this.step(end));
  }
}
