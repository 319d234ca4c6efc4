/**
 * One loop serves all `every()` of a program. It sleeps on a timer while the next deadline is far away, and on a futex for
 * the last stretch, because timers are too coarse.
 *
 * Between any two ticks the event loop turns at least once, so that messages are read and heartbeats sent even at full load
 * (HANDOVER 4.6).
 */
import { pause } from '../../drivers/clock.ts'

/** ns of CLOCK_MONOTONIC, which all processes of the robot share. Exact to 1 ns for 104 days of uptime, then to 2 ns. */
export const clockNs = (): number => Number(process.hrtime.bigint())

const TIMER_SLACK_NS = 2_500_000
/** How long before a tick the work of `before()` runs: long enough to finish, short enough that the caches stay warm. */
const SOON_NS = 350_000
/** After so many ticks without that much time before them, the work is dropped. */
const SOON_TRIES = 5

/** What `every()` calls. It may be async: of its result only a rejection matters. */
export type TickFn = (dt: number) => unknown

/** Period, next deadline and last call of an `every()`; the times in ns of CLOCK_MONOTONIC. */
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

/** Drives a ticker in simulated time instead of the event loop; called when the ticker starts. */
export type Pace = (ticker: Ticker) => void

export class Ticker {
  readonly ticks: Tick[] = []
  count = 0
  overruns = 0
  /** Worst lateness of a tick since the field was last reset, in us. */
  lateUs = 0
  #running = false
  #wake: (() => void) | null = null
  readonly #hooks: TickerHooks
  /** The predecessor's schedule; null until the deadlines are set. */
  #before: readonly TickTimes[] | null = null
  #soon: (() => void) | null = null
  #tries = 0

  constructor(hooks: TickerHooks) {
    this.#hooks = hooks
  }

  /** A tick that is added after the deadlines were set, as after an `await`, is first due one period from now (HANDOVER 4.8). */
  add(ms: number, fn: TickFn): void {
    if (!(ms >= 0.1 && ms <= 86_400_000)) throw new RangeError(`every(): expected 0.1 to 86400000 ms, got ${ms}`)
    const tick = { ms, fn, dueNs: 0, lastNs: 0 }
    if (this.#before !== null) {
      const now = clockNs()
      const carried = carriedBy(this.#before[this.ticks.length], ms, now)
      Object.assign(tick, carried ?? { dueNs: now + ms * 1e6, lastNs: now })
    }
    this.ticks.push(tick)
    this.#wake?.()
  }

  /** Sets the deadlines: the predecessor's for an `every()` with the same period, else now (HANDOVER 4.5). */
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
    return (this.dueNs - clockNs()) / 1e6
  }

  get running(): boolean {
    return this.#running
  }

  /** Runs `work` once, shortly before a tick; until then `afterTick` is not called. Null cancels it. */
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

  /** Calls every tick once, for a rehearsal. */
  once(now: number): void {
    // a copy: a tick that is added by a tick is not due
    for (const tick of [...this.ticks]) this.#run(tick, now)
  }

  /** For a `Pace`: runs the tick that is due at `dueNs`, with the work before and after it. */
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
    const wait = next.dueNs - clockNs()
    if (wait > TIMER_SLACK_NS) {
      this.#sleep(Math.min((wait - TIMER_SLACK_NS) / 1e6, 60_000))
      return
    }
    if (this.#soon !== null && wait >= SOON_NS) this.#prepare(this.#soon, next)
    else if (wait > 0) pause(wait / 1e6)
    this.#run(next, clockNs())
    if (this.#soon !== null && ++this.#tries >= SOON_TRIES) this.#soon = null
    if (this.#soon === null && this.#hooks.afterTick()) this.#running = false
    else this.#turn()
  }

  #prepare(soon: () => void, next: Tick): void {
    const early = next.dueNs - clockNs() - SOON_NS
    if (early > 0) pause(early / 1e6)
    soon()
    this.#soon = null
    const left = next.dueNs - clockNs()
    if (left > 0) pause(left / 1e6)
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
      // a missed deadline is not made up for: the next is a whole period away
      this.overruns++
      tick.dueNs = now + period
    }
    this.count++
    const answer = tick.fn(dt)
    if (answer !== undefined) watch(answer, this.#hooks.failed)
  }
}

/** The times of the predecessor's `every()`, or null if its period differs or its deadline is more than two periods off. */
function carriedBy(before: TickTimes | undefined, ms: number, now: number): Omit<TickTimes, 'ms'> | null {
  const period = ms * 1e6
  if (before === undefined || before.ms !== ms || Math.abs(before.dueNs - now) > 2 * period) return null
  return { dueNs: before.dueNs, lastNs: before.lastNs > 0 ? before.lastNs : now - period }
}

/** Calls `failed` if `answer` is a promise that rejects. */
export function watch(answer: unknown, failed: (error: unknown) => void): void {
  const { then } = Object(answer) as { then?: unknown }
  if (typeof then === 'function') then.call(answer, undefined, failed)
}
