/**
 * Invariant: a trial is passed only by at least three heartbeats of which the last came after the trial had ended
 * (HANDOVER 7.1).
 */
import type { SlotStatus } from '../../../deploy/shared/api.ts'
import { Timeout } from '../../plumbing/timeout.ts'
import type { Cause } from './cause.ts'
import type { Running } from './running.ts'

/** Watches the heartbeats of the program that runs. */
export class Monitor {
  readonly #trial = new Timeout()
  readonly #silenceMs: number
  readonly #onLost: () => void
  readonly #onProved: () => void
  readonly #silence = new Timeout()
  #phase: 'no trial' | 'trial' | 'trial over' = 'no trial'
  #beats = 0

  constructor(silenceMs: number, onLost: () => void, onProved: () => void) {
    this.#silenceMs = silenceMs
    this.#onLost = onLost
    this.#onProved = onProved
  }

  /** Starts watching anew: the program has the whole interval for its next heartbeat. */
  watch(): void {
    this.#silence.set(this.#silenceMs, this.#onLost)
  }

  rest(): void {
    this.#silence.clear()
  }

  beginTrial(trialMs: number): void {
    this.#phase = 'trial'
    this.#beats = 0
    // What the program had sent before the end is read first: it does not show that the program outlived its trial.
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

/** HANDLES 6.8: late, or out of its cell, is as bad as silent. null when a heartbeat says nothing of the kind. */
export function unwell(running: Running, beat: { lateUs: number }, lateMs: number): Cause | null {
  if (lateMs > 0 && beat.lateUs > lateMs * 1000) {
    const message = `the program reports a tick ${(beat.lateUs / 1000).toFixed(1)} ms late, at most ${lateMs} ms are allowed`
    return { code: 'too-late', message }
  }
  if (running.child.contained()) return null
  return { code: 'left-cgroup', message: 'the program has left its control group' }
}

/** Ticks, rate and lateness as the heartbeats report them. */
export class TickRate {
  ticks = 0
  rateHz = 0
  #at = 0

  beat(ticks: number): void {
    const now = performance.now()
    // two that were heard at once say nothing of a rate
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
  const { program, version, digest } = runnable
  const uptimeMs = Math.round(performance.now() - startedAt)
  return { program, version, digest, pid: child.pid, uptimeMs, rateHz: Math.round(rateHz * 10) / 10, ticks }
}
