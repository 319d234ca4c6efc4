/**
 * Limits the rate of change of a value, in steps over time: a token bucket that fills at the rate (HANDLES 15).
 *
 * Invariant: in any time t the value moves by at most its rate times t, plus a burst (test/drivers/program/slew.test.ts).
 *
 * Both sides have one: the program's, so that `value` is the driven value, and the owner's, so that a program that
 * bypasses its SDK moves no faster.
 */
import type { Clock } from '../clock.ts'

/** Time between two steps of a motion (HANDLES 15.2). */
const STEP_NS = 10_000_000n
/** Most time that one step of the program's side makes up for, so that nothing jumps after a pause. */
const PROGRAM_BURST_NS = 20_000_000
/** Twice as long, as a program's timely writes may arrive a little late. */
const OWNER_BURST_NS = 2 * PROGRAM_BURST_NS

export interface SlewOptions {
  /** Change per second. */
  readonly rate: number
  readonly side: 'program' | 'owner'
  readonly value: number
  readonly clock: Clock
  /** Writes the value to the hardware. */
  drive(value: number): void
  /** Called before each further step of a motion; false ends the motion. */
  live(): boolean
  /** Called when such a step throws; true repeats the step later. */
  retry(error: unknown): boolean
}

export class Slew {
  readonly #options: SlewOptions
  readonly #burstNs: number
  #value: number
  #target: number
  #creditNs = 0
  #sinceNs: bigint
  #cancel: (() => void) | null = null

  constructor(options: SlewOptions) {
    this.#options = options
    this.#burstNs = options.side === 'owner' ? OWNER_BURST_NS : PROGRAM_BURST_NS
    this.#value = options.value
    this.#target = options.value
    this.#sinceNs = options.clock.now()
  }

  /**
   * Moves towards `target` as far as allowed now, then goes on in steps. When `drive` throws, so does this, and the
   * motion ends.
   */
  moveTo(target: number): void {
    this.#target = target
    try {
      this.#step()
    } catch (error) {
      this.stop()
      throw error
    }
  }

  /** Takes over a value that somebody else has driven. Ends a motion. */
  set(value: number): void {
    this.stop()
    this.#value = value
    this.#target = value
    this.#creditNs = 0
    this.#sinceNs = this.#options.clock.now()
  }

  /** The writer has changed: the motion ends after at most a burst. */
  settle(): void {
    this.#target = this.#towards(this.#burstNs)
  }

  stop(): void {
    this.#cancel?.()
    this.#cancel = null
    this.#target = this.#value
  }

  #step(): void {
    const { rate, clock, drive } = this.#options
    const now = clock.now()
    this.#creditNs = Math.min(this.#burstNs, this.#creditNs + Number(now - this.#sinceNs))
    this.#sinceNs = now
    const next = this.#towards(this.#creditNs)
    drive(next)
    this.#creditNs = Math.max(0, this.#creditNs - (Math.abs(next - this.#value) / rate) * 1e9)
    this.#value = next
    if (next === this.#target) this.stop()
    else this.#cancel ??= clock.after(STEP_NS, () => this.#continue())
  }

  #continue(): void {
    this.#cancel = null
    if (!this.#options.live()) return this.stop()
    try {
      this.#step()
    } catch (error) {
      if (this.#options.retry(error)) this.#cancel = this.#options.clock.after(STEP_NS, () => this.#continue())
      else this.stop()
    }
  }

  /** The value that may be reached in `ns`. */
  #towards(ns: number): number {
    const most = (this.#options.rate * ns) / 1e9
    const distance = this.#target - this.#value
    return Math.abs(distance) <= most ? this.#target : this.#value + Math.sign(distance) * most
  }
}
