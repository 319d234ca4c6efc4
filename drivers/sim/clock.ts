/** Invariant: the simulated world knows no time but that of its clock. */

export interface Clock {
  /** ns of CLOCK_MONOTONIC, or of a time of its own */
  now(): bigint
  /** Calls once after `ns`; the returned function cancels. */
  after(ns: bigint, call: () => void): () => void
}

/** The same clock that programs stamp their records with. */
export const monotonicClock: Clock = {
  now: () => process.hrtime.bigint(),
  after(ns, call) {
    const timer = setTimeout(call, Number(ns) / 1e6).unref()
    return () => clearTimeout(timer)
  },
}

/** A clock that stands still until it is told to go on. */
export class VirtualClock implements Clock {
  #now: bigint
  #calls: { at: bigint; call: () => void }[] = []

  constructor(start = 0n) {
    this.#now = start
  }

  now(): bigint {
    return this.#now
  }

  after(ns: bigint, call: () => void): () => void {
    const entry = { at: this.#now + ns, call }
    this.#calls.push(entry)
    return () => {
      this.#calls = this.#calls.filter((each) => each !== entry)
    }
  }

  /** Runs what falls due, in order of time, each at its own time. */
  advance(ns: bigint): void {
    const end = this.#now + ns
    for (;;) {
      const due = this.#calls.filter(({ at }) => at <= end).sort((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : 0))[0]
      if (due === undefined) break
      this.#calls = this.#calls.filter((each) => each !== due)
      this.#now = due.at
      due.call()
    }
    this.#now = end
  }
}
