/**
 * Invariant: a trial is passed only by at least three heartbeats, the last of them after the trial's time is over
 * (HANDOVER 7.1; test/runtime/body/slot/monitor.test.ts).
 */
import type { SlotStatus } from '../../../deploy/shared/api.ts'
import { Timeout } from '../../plumbing/timeout.ts'
import type { Cause } from './cause.ts'
import type { Running } from './running.ts'

/** Watches the heartbeats of the running program. */
export class Monitor {
  readonly #trial = new Timeout()
  readonly #silenceMs: number
  readonly #onLost: () => void
  readonly #onProved: () => void
  readonly #silence = new Timeout()
  #phase: 'no trial' | 'trial' | 'trial over' = 'no trial'
  #beats = 0
  /** When the next heartbeat is due; performance.now(). Null: none is awaited, or the silence was dealt with. */
  #due: number | null = null

  constructor(silenceMs: number, onLost: () => void, onProved: () => void) {
    this.#silenceMs = silenceMs
    this.#onLost = onLost
    this.#onProved = onProved
  }

  /** Starts the interval anew: the program has all of it for its next heartbeat. */
  watch(): void {
    this.#due = performance.now() + this.#silenceMs
    this.#silence.set(this.#silenceMs, this.#onLost)
  }

  rest(): void {
    this.#due = null
    this.#silence.clear()
  }

  /** For how long a silent program was not dealt with, in ms. */
  get overdueMs(): number {
    return this.#due === null ? 0 : Math.max(0, performance.now() - this.#due)
  }

  beginTrial(trialMs: number): void {
    this.#phase = 'trial'
    this.#beats = 0
    // Timeout reads what was sent before the deadline first, so a heartbeat from within the trial does not end it.
    this.#trial.set(trialMs, () => {
      this.#phase = 'trial over'
    })
    this.watch()
  }

  beat(): void {
    if (!this.#silence.isSet) return
    this.watch()
    this.#beats++
    if (this.#phase === 'trial over' && this.#beats >= 3) {
      this.endTrial()
      this.#onProved()
    }
  }

  endTrial(): void {
    this.#phase = 'no trial'
    this.#trial.clear()
  }
}

/** A program that is late, or has left its control group, is ended like a silent one (HANDLES 6.8). Null: it is well. */
export function unhealthy(running: Running, beat: { lateUs: number }, lateMs: number): Cause | null {
  if (lateMs > 0 && beat.lateUs > lateMs * 1000) {
    const message = `the program reports a tick ${(beat.lateUs / 1000).toFixed(1)} ms late, at most ${lateMs} ms are allowed`
    return { code: 'too-late', message }
  }
  if (running.child.contained()) return null
  return { code: 'left-cgroup', message: 'the program has left its control group' }
}

/** The number of ticks, and their rate, from the heartbeats. */
export class TickRate {
  ticks = 0
  rateHz = 0
  #at = 0

  beat(ticks: number): void {
    const now = performance.now()
    // Two heartbeats read in the same ms give no rate.
    if (now - this.#at < 1) return
    if (this.#at > 0 && ticks >= this.ticks) {
      const rate = (ticks - this.ticks) / ((now - this.#at) / 1000)
      this.rateHz = this.rateHz === 0 ? rate : this.rateHz * 0.8 + rate * 0.2
    }
    this.ticks = ticks
    this.#at = now
  }
}

export function runningStatus(
  { runnable, child, startedAt }: Running,
  { ticks, rateHz }: TickRate,
): Partial<SlotStatus> {
  const { program, version, digest, check } = runnable
  const checked = check === undefined ? {} : { checkMs: Math.round(check.ms * 10) / 10 }
  const uptimeMs = Math.round(performance.now() - startedAt)
  return { program, version, digest, pid: child.pid, uptimeMs, rateHz: Math.round(rateHz * 10) / 10, ticks, ...checked }
}
