/** Invariant: the pulse stays between its two limits, whatever angle is asked for. */
import { HardwareError } from '../errors.ts'
import type { Pwm } from '../handle.ts'

export interface ServoOptions {
  /** Angle at the shortest and at the longest pulse. Default 0 and 180. */
  minDegrees?: number
  maxDegrees?: number
  /** Default 0.5 and 2.5: what most hobby servos take for their full travel. */
  minPulseMs?: number
  maxPulseMs?: number
}

export class Servo {
  readonly #pwm: Pwm
  readonly #degrees: readonly [number, number]
  readonly #pulses: readonly [number, number]

  /** Throws `unsupported` when the longest pulse does not fit into the period of `pwm`. */
  constructor(pwm: Pwm, options: ServoOptions = {}) {
    const { minDegrees = 0, maxDegrees = 180, minPulseMs = 0.5, maxPulseMs = 2.5 } = options
    this.#pwm = pwm
    this.#degrees = [minDegrees, maxDegrees]
    this.#pulses = [minPulseMs * 1e6, maxPulseMs * 1e6]
    if (!(minDegrees < maxDegrees && minPulseMs >= 0 && minPulseMs < maxPulseMs)) {
      throw new HardwareError('other', `${pwm.name}: expected the lower limits of a servo below the upper ones`)
    }
    if (this.#pulses[1] > pwm.periodNs) {
      const periodMs = pwm.periodNs / 1e6
      throw new HardwareError(
        'unsupported',
        `${pwm.name}: expected a period of at least ${maxPulseMs} ms, got ${periodMs}`,
      )
    }
  }

  /** Angle of the last pulse, also of one that the predecessor of this program sent. */
  get degrees(): number {
    const [shortest, longest] = this.#pulses
    const [from, to] = this.#degrees
    return from + ((this.#pwm.value * this.#pwm.periodNs - shortest) / (longest - shortest)) * (to - from)
  }

  /** Angles beyond the limits go to the limit. Throws `other` for what is no number. */
  to(degrees: number): void {
    if (Number.isNaN(degrees)) throw new HardwareError('other', `${this.#pwm.name}: expected an angle, got ${degrees}`)
    const [from, to] = this.#degrees
    const [shortest, longest] = this.#pulses
    const part = (Math.min(to, Math.max(from, degrees)) - from) / (to - from)
    this.#pwm.write((shortest + part * (longest - shortest)) / this.#pwm.periodNs)
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
