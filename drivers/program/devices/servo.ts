/** A hobby servo on a servo handle or a PWM. Its angle is that of the handle, so it survives a swap. */
import { HardwareError } from '../../errors.ts'
import type { Pwm, Servo as ServoHandle } from '../handle.ts'
import { degreesOf, dutyOf, type ServoScale } from '../servo.ts'
import { Glide } from './glide.ts'
import { invalidValue } from './registers.ts'

export interface ServoOptions {
  /**
   * On a pwm: angles at the shortest and longest pulse; default 0 and 180. On a servo handle: limits within its range.
   */
  minDegrees?: number
  maxDegrees?: number
  /** On a pwm handle only. Default 0.5 and 2.5, the full travel of most hobby servos. */
  minPulseMs?: number
  maxPulseMs?: number
}

export interface SweepOptions {
  /** Default: the limits. */
  from?: number
  to?: number
  /** Time for each way. Default 1000. */
  ms?: number
}

/** The two kinds of handle, in degrees. */
interface Arm {
  readonly value: number
  write(degrees: number): void
}

/** A hobby servo. It has no timer: movements advance in {@link tick}. */
export class Servo {
  readonly #name: string
  readonly #arm: Arm
  readonly #degrees: readonly [number, number]
  #step: ((dt: number) => void) | null = null

  /** Throws `other` for invalid limits, `unsupported` when the longest pulse does not fit into the period of a pwm. */
  constructor(handle: Pwm | ServoHandle, options: ServoOptions = {}) {
    const range = handle.kind === 'servo' ? handle.range : ([0, 180] as const)
    const { minDegrees = range[0], maxDegrees = range[1] } = options
    this.#name = handle.name
    this.#degrees = [minDegrees, maxDegrees]
    if (!(minDegrees < maxDegrees)) {
      throw new HardwareError('other', `${handle.name}: expected the lower limits of a servo below the upper ones`)
    }
    this.#arm =
      handle.kind === 'servo' ? withinRange(handle, this.#degrees, options) : onPwm(handle, this.#degrees, options)
  }

  /** The current angle; also one that the previous program set. */
  get degrees(): number {
    return this.#arm.value
  }

  /** True during a timed movement or a sweep. */
  get isMoving(): boolean {
    return this.#step !== null
  }

  /** Moves to an angle, within `ms`. An angle beyond the limits goes to the limit. Throws `other` for NaN. */
  to(degrees: number, ms = 0): void {
    const target = this.#within(degrees)
    if (!(ms >= 0)) throw invalidValue(this.#name, 'a time of 0 ms or more', ms)
    this.#step = null
    if (ms === 0) return this.#arm.write(target)
    const glide = new Glide(this.#within(this.degrees), target, ms / 1000)
    this.#step = (dt) => {
      this.#arm.write(glide.next(dt))
      if (glide.isDone) this.#step = null
    }
  }

  min(ms = 0): void {
    this.to(this.#degrees[0], ms)
  }

  max(ms = 0): void {
    this.to(this.#degrees[1], ms)
  }

  center(ms = 0): void {
    this.to((this.#degrees[0] + this.#degrees[1]) / 2, ms)
  }

  /** Moves to and fro between `from` and `to`, from the current angle towards `to` first. */
  sweep(options: SweepOptions = {}): void {
    const { from = this.#degrees[0], to = this.#degrees[1], ms = 1000 } = options
    if (!(ms > 0)) throw invalidValue(this.#name, 'a time of more than 0 ms', ms)
    let [start, end] = [this.#within(from), this.#within(to)]
    const seconds = (distance: number) => (end === start ? 0 : (Math.abs(distance / (end - start)) * ms) / 1000)
    const onwards = () => {
      const now = this.#within(this.degrees)
      return new Glide(now, end, seconds(end - now))
    }
    let glide = onwards()
    this.#step = (dt) => {
      this.#arm.write(glide.next(dt))
      if (!glide.isDone) return
      ;[start, end] = [end, start]
      glide = onwards()
    }
  }

  /** Ends a movement and holds the current angle. */
  stop(): void {
    this.#step = null
  }

  /** Advances movements by `dt` seconds; call it often: `every(20, (dt) => servo.tick(dt))`. */
  tick(dt: number): void {
    this.#step?.(dt)
  }

  #within(degrees: number): number {
    if (Number.isNaN(degrees)) throw invalidValue(this.#name, 'an angle', degrees)
    return Math.min(this.#degrees[1], Math.max(this.#degrees[0], degrees))
  }
}

/** A servo handle, whose pulses the board file sets, with limits within its range. */
function withinRange(handle: ServoHandle, [from, to]: readonly [number, number], options: ServoOptions): Arm {
  const [lowest, highest] = handle.range
  if (options.minPulseMs !== undefined || options.maxPulseMs !== undefined) {
    throw new HardwareError(
      'other',
      `${handle.name}: the pulses of a servo handle are minUs and maxUs in the board file`,
    )
  }
  if (from < lowest || to > highest) {
    const message = `${handle.name}: expected limits from ${lowest} to ${highest}, got ${from} to ${to}`
    throw new HardwareError('other', message)
  }
  return handle
}

function onPwm(pwm: Pwm, degrees: readonly [number, number], options: ServoOptions): Arm {
  const { minPulseMs = 0.5, maxPulseMs = 2.5 } = options
  if (!(minPulseMs >= 0 && minPulseMs < maxPulseMs)) {
    throw new HardwareError('other', `${pwm.name}: expected the lower limits of a servo below the upper ones`)
  }
  const { periodNs } = pwm
  const scale: ServoScale = { periodNs, pulsesNs: [minPulseMs * 1e6, maxPulseMs * 1e6], degrees }
  if (maxPulseMs * 1e6 > periodNs) {
    const message = `${pwm.name}: expected a period of at least ${maxPulseMs} ms, got ${periodNs / 1e6}`
    throw new HardwareError('unsupported', message)
  }
  return {
    get value() {
      return degreesOf(scale, pwm.value)
    },
    write: (angle) => pwm.write(dutyOf(scale, angle)),
  }
}
