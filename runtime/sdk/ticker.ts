/**
 * Invariant: between any two ticks the event loop turns at least once, so a real-time loop still hears and heartbeats.
 *
 * One loop serves every `every()`. It sleeps on a timer while the next deadline is far, and on a futex for the last
 * stretch, where timers are too coarse (HANDOVER 4.6).
 */

/** ns of CLOCK_MONOTONIC; the same clock in every process of the robot. Exact to 1 ns for 104 days, then to 2 ns. */
export const monotonicNs = (): number => Number(process.hrtime.bigint())

const TIMER_SLACK_NS = 2_500_000
/** How long before a tick `soon` runs: long enough for its work, short enough to leave the caches warm. */
const SOON_NS = 350_000
/** A loop that never has that much time is not waited for. */
const SOON_TRIES = 5
const cell = new Int32Array(new SharedArrayBuffer(4))

/** Puts this thread to sleep; the event loop does not turn. */
export function rest(ms: number): void {
  Atomics.wait(cell, 0, 0, ms)
}

export interface Tick {
  readonly ms: number
  readonly fn: (dt: number) => void
  dueNs: number
  lastNs: number
}

/** Runs a ticker in a time of its own, in the place of the event loop; told when the ticker starts. */
export type Pace = (ticker: Ticker) => void

export class Ticker {
  readonly ticks: Tick[] = []
  count = 0
  overruns = 0
  /** Worst lateness since it was last read, in us. */
  lateUs = 0
  #running = false
  #wake: (() => void) | null = null
  readonly #afterTick: () => boolean
  readonly #pace: Pace | undefined
  #soon: (() => void) | null = null
  #tries = 0

  /** `afterTick` runs after each tick; when it returns true the loop stops. */
  constructor(afterTick: () => boolean, pace?: Pace) {
    this.#afterTick = afterTick
    this.#pace = pace
  }

  add(ms: number, fn: (dt: number) => void): void {
    if (!(ms >= 0.1 && ms <= 86_400_000)) throw new RangeError(`every(): expected 0.1 to 86400000 ms, got ${ms}`)
    this.ticks.push({ ms, fn, dueNs: 0, lastNs: 0 })
  }

  /** Sets deadlines: those of a predecessor's schedule where the period is the same, else now (HANDOVER 4.5). */
  align(schedule: readonly { ms: number; dueNs: number; lastNs: number }[], now: number): void {
    this.ticks.forEach((tick, i) => {
      const before = schedule[i]
      const period = tick.ms * 1e6
      const carried = before !== undefined && before.ms === tick.ms && Math.abs(before.dueNs - now) <= 2 * period
      tick.dueNs = carried ? before.dueNs : now
      tick.lastNs = carried && before.lastNs > 0 ? before.lastNs : now - period
    })
  }

  schedule(): { ms: number; dueNs: number; lastNs: number }[] {
    return this.ticks.map(({ ms, dueNs, lastNs }) => ({ ms, dueNs, lastNs }))
  }

  /** The deadline of the next tick; infinite when there is none. */
  get dueNs(): number {
    let due = Number.POSITIVE_INFINITY
    for (const tick of this.ticks) due = Math.min(due, tick.dueNs)
    return due
  }

  /** ms until the next tick; infinite when there is none. */
  get nextMs(): number {
    return (this.dueNs - monotonicNs()) / 1e6
  }

  get running(): boolean {
    return this.#running
  }

  /** Runs `work` once, shortly before a tick; until then `afterTick` is not asked. Null takes it back. */
  before(work: (() => void) | null): void {
    this.#soon = work
    this.#tries = 0
  }

  start(): void {
    if (this.#running) return
    this.#running = true
    if (this.#pace === undefined) this.#turn()
    else this.#pace(this)
  }

  stop(): void {
    this.#running = false
    this.#wake?.()
  }

  /** One tick of each, now: used by rehearsals. */
  once(now: number): void {
    for (const tick of this.ticks) this.#run(tick, now)
  }

  /** For a pace, at `dueNs`: the tick, with what comes before and after it. */
  fire(): void {
    const next = this.#next()
    if (next === undefined) return
    this.#soon?.()
    this.#soon = null
    this.#run(next, next.dueNs)
    if (this.#afterTick()) this.#running = false
  }

  #next(): Tick | undefined {
    let next = this.ticks[0]
    for (const tick of this.ticks) if (next !== undefined && tick.dueNs < next.dueNs) next = tick
    return next
  }

  #turn(): void {
    setImmediate(() => {
      if (this.#running) this.#step()
    })
  }

  #step(): void {
    const next = this.#next()
    if (next === undefined) {
      this.#sleep(1000)
      return
    }
    const wait = next.dueNs - monotonicNs()
    if (wait > TIMER_SLACK_NS) {
      this.#sleep(Math.min((wait - TIMER_SLACK_NS) / 1e6, 60_000))
      return
    }
    if (this.#soon !== null && wait >= SOON_NS) this.#prepare(this.#soon, next)
    else if (wait > 0) rest(wait / 1e6)
    this.#run(next, monotonicNs())
    if (this.#soon !== null && ++this.#tries >= SOON_TRIES) this.#soon = null
    if (this.#soon === null && this.#afterTick()) this.#running = false
    else this.#turn()
  }

  #prepare(soon: () => void, next: Tick): void {
    const early = next.dueNs - monotonicNs() - SOON_NS
    if (early > 0) rest(early / 1e6)
    soon()
    this.#soon = null
    const left = next.dueNs - monotonicNs()
    if (left > 0) rest(left / 1e6)
  }

  #sleep(ms: number): void {
    const timer = setTimeout(() => this.#wake?.(), ms)
    this.#wake = () => {
      this.#wake = null
      clearTimeout(timer)
      this.#turn()
    }
  }

  #run(tick: Tick, now: number): void {
    const period = tick.ms * 1e6
    const late = now - tick.dueNs
    if (late > this.lateUs * 1000) this.lateUs = late / 1000
    const dt = (now - tick.lastNs) / 1e9
    tick.lastNs = now
    tick.dueNs += period
    if (tick.dueNs <= now) {
      // a missed deadline is not made up for: the next one is a whole period away
      this.overruns++
      tick.dueNs = now + period
    }
    this.count++
    tick.fn(dt)
  }
}
