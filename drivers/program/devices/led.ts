/** Invariant: a LED knows nothing but its output; what it shows survives a swap, and nothing changes it but the caller. */
import { HardwareError } from '../../errors.ts'
import type { Level, Output, Pwm } from '../handle.ts'
import { Glide } from './glide.ts'
import { unexpected } from './registers.ts'

/** A LED on a line, or on a PWM where it can be dimmed. It has no timer: what takes time goes on in {@link tick}. */
export class Led {
  readonly #output: Output | Pwm
  #step: ((dt: number) => void) | null = null

  constructor(output: Output | Pwm) {
    this.#output = output
  }

  get isOn(): boolean {
    return this.#output.value > 0
  }

  /** Brightness, 0 to 1; from before this program, too. */
  get value(): number {
    return this.#output.value
  }

  /** Whether `blink`, `pulse` or `fade` goes on. */
  get isRunning(): boolean {
    return this.#step !== null
  }

  on(): void {
    this.set(1)
  }

  off(): void {
    this.set(0)
  }

  toggle(): void {
    this.set(!this.isOn)
  }

  /** As `on` or `off`. Each of the four ends what goes on. */
  set(level: Level | boolean): void {
    this.stop()
    this.#output.write(level ? 1 : 0)
  }

  /** 0 to 1. Throws `unsupported` on a line, for anything between. */
  brightness(part: number): void {
    this.stop()
    this.#write(part)
  }

  /** On and off, `ms` each, beginning with the other one after `ms`. */
  blink(ms = 500): void {
    const seconds = this.#seconds(ms)
    let gone = 0
    this.#step = (dt) => {
      gone += dt
      if (gone < seconds) return
      gone %= seconds
      this.#output.write(this.isOn ? 0 : 1)
    }
  }

  /** Brighter and darker, `ms` each way, from the present brightness on. PWM only, else it throws `unsupported`. */
  pulse(ms = 1000): void {
    const seconds = this.#seconds(ms)
    let phase = this.value * seconds
    this.#step = (dt) => {
      phase = (phase + dt) % (2 * seconds)
      this.#write(Math.min(phase, 2 * seconds - phase) / seconds)
    }
    this.#dimmed()
  }

  /** To a brightness, within `ms`. PWM only, else it throws `unsupported`. */
  fade(part: number, ms = 1000): void {
    this.#dimmed()
    const glide = new Glide(this.value, this.#checked(part), this.#seconds(ms))
    this.#step = (dt) => {
      this.#write(glide.next(dt))
      if (glide.isDone) this.#step = null
    }
  }

  /** Ends what goes on; the brightness stays as it is now. */
  stop(): void {
    this.#step = null
  }

  /** To be called as often as it shall change, with the seconds since the last call: `every(20, (dt) => led.tick(dt))`. */
  tick(dt: number): void {
    this.#step?.(dt)
  }

  #write(part: number): void {
    const output = this.#output
    if (output.kind === 'pwm') output.write(this.#checked(part))
    else if (part === 0 || part === 1) output.write(part)
    else this.#dimmed()
  }

  #dimmed(): void {
    if (this.#output.kind === 'pwm') return
    this.stop()
    throw new HardwareError('unsupported', `${this.#output.name}: a line is on or off; dimming needs a PWM`)
  }

  #checked(part: number): number {
    if (part >= 0 && part <= 1) return part
    throw unexpected(this.#output.name, 'a brightness from 0 to 1', part)
  }

  #seconds(ms: number): number {
    if (ms > 0) return ms / 1000
    throw unexpected(this.#output.name, 'a time of more than 0 ms', ms)
  }
}
