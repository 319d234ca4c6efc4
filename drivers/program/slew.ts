/**
 * Invariant: in any time t a value moves by no more than its rate times t, and a burst; it stands still when nobody asked
 * it to move (HANDLES 15).
 *
 * The program's side has one, so that `value` is what is driven, and the owner's side has one, so that a program that goes
 * around its SDK is no faster. The rate is what a bucket fills with; a step takes what is in it.
 */
import type { Clock } from '../clock.ts'

/** HANDLES 15.2: between two steps that nobody asked for. */
const STEP_NS = 10_000_000n
/** The most that a step of the program's side makes up for: after a pause nothing jumps. */
const PROGRAM_BURST_NS = 20_000_000
/** Twice that: what came from a program in time may arrive a little late. */
const OWNER_BURST_NS = 2 * PROGRAM_BURST_NS

export interface SlewOptions {
  /** Per second. */
  readonly rate: number
  readonly side: 'program' | 'owner'
  readonly value: number
  readonly clock: Clock
  /** Brings the hardware there. */
  drive(value: number): void
  /** Asked before each step that nobody asked for. */
  live(): boolean
  /** What such a step threw: true tries again. */
  again(error: unknown): boolean
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

  /** Moves as far as it may now, and goes on by itself. Throws what driving throws; then it stays where it is. */
  to(target: number): void {
    this.#target = target
    try {
      this.#step()
    } catch (error) {
      this.stop()
      throw error
    }
  }

  /** It is there now, whoever brought it there. Ends a motion. */
  set(value: number): void {
    this.stop()
    this.#value = value
    this.#target = value
    this.#creditNs = 0
    this.#sinceNs = this.#options.clock.now()
  }

  /** Who asked has lost its right: what was under way arrives, and no more. */
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
    else this.#cancel ??= clock.after(STEP_NS, () => this.#goOn())
  }

  #goOn(): void {
    this.#cancel = null
    if (!this.#options.live()) return this.stop()
    try {
      this.#step()
    } catch (error) {
      if (this.#options.again(error)) this.#cancel = this.#options.clock.after(STEP_NS, () => this.#goOn())
      else this.stop()
    }
  }

  /** Where so much time leads to. */
  #towards(ns: number): number {
    const most = (this.#options.rate * ns) / 1e9
    const way = this.#target - this.#value
    return Math.abs(way) <= most ? this.#target : this.#value + Math.sign(way) * most
  }
}
