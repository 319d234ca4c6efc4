/** Invariant: what takes time is told the time by a clock that it was given. */
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
