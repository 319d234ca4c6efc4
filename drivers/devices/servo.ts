/** Invariant: the pulse stays between its two limits, whatever angle is asked for. */
import { HardwareError } from '../errors.ts'
import type { Pwm, Servo as ServoHandle } from '../handle.ts'
import { degreesOf, dutyOf, type ServoScale } from '../servo.ts'

export interface ServoOptions {
  /** Angle at the shortest and at the longest pulse; default 0 and 180. Of a servo handle: limits within its range. */
  minDegrees?: number
  maxDegrees?: number
  /** Over a pwm handle only. Default 0.5 and 2.5: what most hobby servos take for their full travel. */
  minPulseMs?: number
  maxPulseMs?: number
}

/** What the two kinds of handle have in common, in degrees. */
interface Arm {
  readonly value: number
  write(degrees: number): void
}

export class Servo {
  readonly #name: string
  readonly #arm: Arm
  readonly #degrees: readonly [number, number]

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

  /** Angles beyond the limits go to the limit. Throws `other` for what is no number. */
  to(degrees: number): void {
    if (Number.isNaN(degrees)) throw new HardwareError('other', `${this.#name}: expected an angle, got ${degrees}`)
    const [from, to] = this.#degrees
    this.#arm.write(Math.min(to, Math.max(from, degrees)))
  }

  min(): void {
    this.to(this.#degrees[0])
  }

  max(): void {
    this.to(this.#degrees[1])
  }

  center(): void {
    this.to((this.#degrees[0] + this.#degrees[1]) / 2)
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
