/** An LED on an output or a PWM. Its state is that of the output, so it survives a swap. */
import { HardwareError } from '../../errors.ts'
import type { Level, Output, Pwm } from '../handle.ts'
import { Glide } from './glide.ts'
import { invalidValue } from './registers.ts'

/** An LED on an output, or on a PWM, which can dim it. It has no timer: effects advance in {@link tick}. */
export class Led {
  readonly #output: Output | Pwm
  #step: ((dt: number) => void) | null = null

  constructor(output: Output | Pwm) {
    this.#output = output
  }

  get isOn(): boolean {
    return this.#output.value > 0
  }

  /** Brightness, 0 to 1; also one that the previous program set. */
  get value(): number {
    return this.#output.value
  }

  /** True while `blink`, `pulse` or `fade` is running. */
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

  /** As `on` or `off`. `on`, `off`, `toggle` and `set` end a running effect. */
  set(level: Level | boolean): void {
    this.stop()
    this.#output.write(level ? 1 : 0)
  }

  /** 0 to 1. On an output, values between throw `unsupported`. */
  brightness(part: number): void {
    this.stop()
    this.#write(part)
  }

  /** On and off for `ms` each. The first change comes after `ms`. */
  blink(ms = 500): void {
    const seconds = this.#seconds(ms)
    let elapsed = 0
    this.#step = (dt) => {
      elapsed += dt
      if (elapsed < seconds) return
      elapsed %= seconds
      this.#output.write(this.isOn ? 0 : 1)
    }
  }

  /** Brighter and darker, `ms` each way, from the current brightness. Throws `unsupported` without a PWM. */
  pulse(ms = 1000): void {
    const seconds = this.#seconds(ms)
    let phase = this.value * seconds
    this.#step = (dt) => {
      phase = (phase + dt) % (2 * seconds)
      this.#write(Math.min(phase, 2 * seconds - phase) / seconds)
    }
    this.#requirePwm()
  }

  /** Changes to a brightness within `ms`. Throws `unsupported` without a PWM. */
  fade(part: number, ms = 1000): void {
    this.#requirePwm()
    const glide = new Glide(this.value, this.#checked(part), this.#seconds(ms))
    this.#step = (dt) => {
      this.#write(glide.next(dt))
      if (glide.isDone) this.#step = null
    }
  }

  /** Ends a running effect; the brightness stays. */
  stop(): void {
    this.#step = null
  }

  /** Advances effects by `dt` seconds; call it often: `every(20, (dt) => led.tick(dt))`. */
  tick(dt: number): void {
    this.#step?.(dt)
  }

  #write(part: number): void {
    const output = this.#output
    if (output.kind === 'pwm') output.write(this.#checked(part))
    else if (part === 0 || part === 1) output.write(part)
    else this.#requirePwm()
  }

  #requirePwm(): void {
    if (this.#output.kind === 'pwm') return
    this.stop()
    throw new HardwareError('unsupported', `${this.#output.name}: an output is on or off; dimming needs a PWM`)
  }

  #checked(part: number): number {
    if (part >= 0 && part <= 1) return part
    throw invalidValue(this.#output.name, 'a brightness from 0 to 1', part)
  }

  #seconds(ms: number): number {
    if (ms > 0) return ms / 1000
    throw invalidValue(this.#output.name, 'a time of more than 0 ms', ms)
  }
}
