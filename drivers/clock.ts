/** The clock that code with timers is given, so that tests and simulations can pass one of their own. */
export interface Clock {
  /** ns: CLOCK_MONOTONIC, or simulated time */
  now(): bigint
  /** Calls `call` once, after `ns`. The returned function cancels the call. */
  after(ns: bigint, call: () => void): () => void
}

const sleeper = /* @__PURE__ */ new Int32Array(/* @__PURE__ */ new SharedArrayBuffer(4))

/** Puts this thread to sleep; the event loop does not turn. */
export function pause(ms: number): void {
  Atomics.wait(sleeper, 0, 0, ms)
}

/** Programs stamp their write records with the same clock. */
export const monotonicClock: Clock = {
  now: () => process.hrtime.bigint(),
  after(ns, call) {
    const timer = setTimeout(call, Number(ns) / 1e6).unref()
    return () => clearTimeout(timer)
  },
}
