/** Invariant: the pulse stays between its two limits, whatever angle is asked for. */
import { HardwareError } from '../../errors.ts'
import type { Pwm, Servo as ServoHandle } from '../handle.ts'
import { degreesOf, dutyOf, type ServoScale } from '../servo.ts'
import { Glide } from './glide.ts'
import { unexpected } from './registers.ts'

export interface ServoOptions {
  /** Angle at the shortest and at the longest pulse; default 0 and 180. Of a servo handle: limits within its range. */
  minDegrees?: number
  maxDegrees?: number
  /** Over a pwm handle only. Default 0.5 and 2.5: what most hobby servos take for their full travel. */
  minPulseMs?: number
  maxPulseMs?: number
}

export interface SweepOptions {
  /** Default: the limits. */
  from?: number
  to?: number
  /** Each way. Default 1000. */
  ms?: number
}

/** What the two kinds of handle have in common, in degrees. */
interface Arm {
  readonly value: number
  write(degrees: number): void
}

/** A hobby servo. It has no timer: what takes time goes on in {@link tick}. */
export class Servo {
  readonly #name: string
  readonly #arm: Arm
  readonly #degrees: readonly [number, number]
  #step: ((dt: number) => void) | null = null

  /** Throws `other` for limits that are none, `unsupported` when the longest pulse does not fit into the period of a pwm. */
  constructor(handle: Pwm | ServoHandle, options: ServoOptions = {}) {
    const range = handle.kind === 'servo' ? handle.range : ([0, 180] as const)
    const { minDegrees = range[0], maxDegrees = range[1] } = options
    this.#name = handle.name
    this.#degrees = [minDegrees, maxDegrees]
    if (!(minDegrees < maxDegrees)) {
      throw new HardwareError('other', `${handle.name}: expected the lower limits of a servo below the upper ones`)
    }
    this.#arm =
      handle.kind === 'servo' ? withinRange(handle, this.#degrees, options) : over(handle, this.#degrees, options)
  }

  /** Angle of the last pulse, also of one that the predecessor of this program sent. */
  get degrees(): number {
    return this.#arm.value
  }

  /** Whether a way that takes time, or a sweep, goes on. */
  get isMoving(): boolean {
    return this.#step !== null
  }

  /** Angles beyond the limits go to the limit. With `ms`, it takes that long. Throws `other` for what is no number. */
  to(degrees: number, ms = 0): void {
    const target = this.#within(degrees)
    if (!(ms >= 0)) throw unexpected(this.#name, 'a time of 0 ms or more', ms)
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

  /** To and fro, beginning where it is, towards `to`. */
  sweep(options: SweepOptions = {}): void {
    const { from = this.#degrees[0], to = this.#degrees[1], ms = 1000 } = options
    if (!(ms > 0)) throw unexpected(this.#name, 'a time of more than 0 ms', ms)
    let [start, end] = [this.#within(from), this.#within(to)]
    const seconds = (way: number) => (end === start ? 0 : (Math.abs(way / (end - start)) * ms) / 1000)
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

  /** Ends what goes on, and holds the present angle. */
  stop(): void {
    this.#step = null
  }

  /** To be called as often as it shall move, with the seconds since the last call: `every(20, (dt) => servo.tick(dt))`. */
  tick(dt: number): void {
    this.#step?.(dt)
  }

  #within(degrees: number): number {
    if (Number.isNaN(degrees)) throw unexpected(this.#name, 'an angle', degrees)
    return Math.min(this.#degrees[1], Math.max(this.#degrees[0], degrees))
  }
}

/** The board file has the pulses. */
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

function over(pwm: Pwm, degrees: readonly [number, number], options: ServoOptions): Arm {
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
