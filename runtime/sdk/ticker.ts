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

/** What `every()` calls; it may be async, and its answer counts for nothing else. */
export type TickFn = (dt: number) => unknown

/** Deadline and last call of an `every()`, in ns of CLOCK_MONOTONIC. */
export interface TickTimes {
  readonly ms: number
  dueNs: number
  lastNs: number
}

interface Tick extends TickTimes {
  readonly fn: TickFn
}

export interface TickerHooks {
  /** Runs after each tick; true stops the loop. */
  afterTick(): boolean
  /** An async tick was rejected. */
  failed(error: unknown): void
  /** Absent: the event loop. */
  readonly pace?: Pace | undefined
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
  readonly #hooks: TickerHooks
  /** What the predecessor left; null before the deadlines are set. */
  #before: readonly TickTimes[] | null = null
  #soon: (() => void) | null = null
  #tries = 0

  constructor(hooks: TickerHooks) {
    this.#hooks = hooks
  }

  /** One that is added once the deadlines are set, as after an `await`, begins a period from now (HANDOVER 4.8). */
  add(ms: number, fn: TickFn): void {
    if (!(ms >= 0.1 && ms <= 86_400_000)) throw new RangeError(`every(): expected 0.1 to 86400000 ms, got ${ms}`)
    const tick = { ms, fn, dueNs: 0, lastNs: 0 }
    if (this.#before !== null) {
      const now = monotonicNs()
      const carried = carriedBy(this.#before[this.ticks.length], ms, now)
      Object.assign(tick, carried ?? { dueNs: now + ms * 1e6, lastNs: now })
    }
    this.ticks.push(tick)
    this.#wake?.()
  }

  /** Sets deadlines: those of a predecessor's schedule where the period is the same, else now (HANDOVER 4.5). */
  align(schedule: readonly TickTimes[], now: number): void {
    this.#before = schedule
    this.ticks.forEach((tick, i) => {
      Object.assign(tick, carriedBy(schedule[i], tick.ms, now) ?? { dueNs: now, lastNs: now - tick.ms * 1e6 })
    })
  }

  schedule(): TickTimes[] {
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
    const { pace } = this.#hooks
    if (pace === undefined) this.#turn()
    else pace(this)
  }

  stop(): void {
    this.#running = false
    this.#wake?.()
  }

  /** One tick of each, now: used by rehearsals. */
  once(now: number): void {
    // those that a tick adds are not due
    for (const tick of [...this.ticks]) this.#run(tick, now)
  }

  /** For a pace, at `dueNs`: the tick, with what comes before and after it. */
  fire(): void {
    const next = this.#next()
    if (next === undefined) return
    this.#soon?.()
    this.#soon = null
    this.#run(next, next.dueNs)
    if (this.#hooks.afterTick()) this.#running = false
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
    if (this.#soon === null && this.#hooks.afterTick()) this.#running = false
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
    const answer = tick.fn(dt)
    if (answer !== undefined) watch(answer, this.#hooks.failed)
  }
}

/** The times of a predecessor's `every()`, where it is the same and has not stood still. */
function carriedBy(before: TickTimes | undefined, ms: number, now: number): Omit<TickTimes, 'ms'> | null {
  const period = ms * 1e6
  if (before === undefined || before.ms !== ms || Math.abs(before.dueNs - now) > 2 * period) return null
  return { dueNs: before.dueNs, lastNs: before.lastNs > 0 ? before.lastNs : now - period }
}

/** Hears of the rejection of what may be a promise. */
export function watch(answer: unknown, failed: (error: unknown) => void): void {
  const { then } = Object(answer) as { then?: unknown }
  if (typeof then === 'function') then.call(answer, undefined, failed)
}
