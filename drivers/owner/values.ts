/** Invariant: hardware only gets a value that its kind has (HANDLES 6.4, 6.5). */
import type { BoardHandle } from '../board/types.ts'
import { HardwareError } from '../errors.ts'

/** The value as the hardware takes it. Throws `other` for what is not one, `unsupported` for a kind without values. */
export function checkedValue(name: string, entry: BoardHandle, value: number): number {
  if (entry.kind === 'output') {
    if (value === 0 || value === 1) return value
    throw new HardwareError('other', `${name}: expected level 0 or 1, got ${value}`)
  }
  if (entry.kind === 'pwm') {
    // HANDLES 6.4: written so that NaN fails it
    if (!(value >= 0 && value <= 1)) {
      throw new HardwareError('other', `${name}: expected a duty cycle from 0 to 1, got ${value}`)
    }
    // HANDLES 6.5
    return Math.min(entry.max, Math.max(entry.min, value))
  }
  if (entry.kind === 'servo') {
    if (!Number.isFinite(value)) throw new HardwareError('other', `${name}: expected degrees, got ${value}`)
    // HANDLES 6.5
    const [lowest, highest] = entry.degrees
    return Math.min(highest, Math.max(lowest, value))
  }
  throw new HardwareError('unsupported', `${name}: kind ${entry.kind} cannot be written`)
}

/** HANDLES 6.2: what the body drives when no program does; null for `hold`, and for what is not driven. */
export function safeValue(entry: BoardHandle): number | null {
  if (entry.kind !== 'output' && entry.kind !== 'pwm' && entry.kind !== 'servo') return null
  return entry.safe === 'hold' ? null : entry.safe
}
