/** Simulated time, for tests: the world takes its time from here instead of CLOCK_MONOTONIC. */
import type { Clock } from '../../clock.ts'

/** A clock that moves only in `step` and `advance`. */
export class VirtualClock implements Clock {
  #now: bigint
  /** In order of time, then of registration. */
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

  /** Time of the next call; null when none is waiting. */
  get due(): bigint | null {
    return this.#calls[0]?.at ?? null
  }

  /** Makes the first call that is due by `at`, at its own time. If none is, sets the time to `at` and returns false. */
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

  /** Moves the time on by `ns`, and makes every call that is due meanwhile at its own time. */
  advance(ns: bigint): void {
    const end = this.#now + ns
    while (this.step(end));
  }
}
