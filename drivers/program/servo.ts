/** Converts the degrees of a servo to pulses and back: a straight line between two limits (HANDLES 1.5). */
import type { PwmEntry, ServoEntry } from '../board/types.ts'
import type { Grant } from './handle.ts'

export interface ServoScale {
  readonly periodNs: number
  /** Pulse at the lowest angle, and at the highest. */
  readonly pulsesNs: readonly [number, number]
  readonly degrees: readonly [number, number]
}

/** The PWM period in whole ns, as the kernel takes it. */
export function periodNs(frequencyHz: number): number {
  return Math.round(1e9 / frequencyHz)
}

export function scaleOf({ frequencyHz, minUs, maxUs, degrees }: ServoEntry): ServoScale {
  return { periodNs: periodNs(frequencyHz), pulsesNs: [minUs * 1000, maxUs * 1000], degrees }
}

export function scaleOfGrant(grant: Grant): ServoScale {
  return { periodNs: grant.periodNs ?? 1, pulsesNs: grant.pulsesNs ?? [0, 0], degrees: rangeOf(grant) }
}

export function rangeOf({ min = 0, max = 1 }: Pick<Grant, 'min' | 'max'>): [number, number] {
  return [min, max]
}

/** The duty cycle for an angle. An angle beyond the limits goes to the limit. */
export function dutyOf({ periodNs, pulsesNs: [shortest, longest], degrees: [low, high] }: ServoScale, degrees: number) {
  const part = (Math.min(high, Math.max(low, degrees)) - low) / (high - low)
  return (shortest + part * (longest - shortest)) / periodNs
}

export function degreesOf({ periodNs, pulsesNs: [shortest, longest], degrees: [low, high] }: ServoScale, duty: number) {
  return low + ((duty * periodNs - shortest) / (longest - shortest)) * (high - low)
}

/** The pwm entry that drives the servo. */
export function pwmOf(entry: ServoEntry): PwmEntry {
  const { line, frequencyHz, initial, safe, degrees, driver, channel, via } = entry
  const duty = (angle: number) => dutyOf(scaleOf(entry), angle)
  return {
    kind: 'pwm',
    line,
    frequencyHz,
    initial: duty(initial),
    safe: safe === 'hold' ? safe : duty(safe),
    min: duty(degrees[0]),
    max: duty(degrees[1]),
    slew: 0,
    driver,
    ...(channel === undefined ? {} : { channel }),
    via,
  }
}
