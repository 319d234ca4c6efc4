/** Checks and limits a value before the hardware gets it (HANDLES 6.4, 6.5). */
import type { BoardHandle } from '../board/types.ts'
import { HardwareError } from '../errors.ts'

/** The value, moved into the limits. Throws `other` for an invalid value, `unsupported` for a kind without one. */
export function checkedValue(name: string, entry: BoardHandle, value: number): number {
  if (entry.kind === 'output') {
    if (value === 0 || value === 1) return value
    throw new HardwareError('other', `${name}: expected level 0 or 1, got ${value}`)
  }
  if (entry.kind === 'pwm') {
    // in this form the test also refuses NaN (HANDLES 6.4)
    if (!(value >= 0 && value <= 1)) {
      throw new HardwareError('other', `${name}: expected a duty cycle from 0 to 1, got ${value}`)
    }
    // the board's limits protect the hardware from any program (HANDLES 6.5)
    return Math.min(entry.max, Math.max(entry.min, value))
  }
  if (entry.kind === 'servo') {
    if (!Number.isFinite(value)) throw new HardwareError('other', `${name}: expected degrees, got ${value}`)
    const [lowest, highest] = entry.degrees
    return Math.min(highest, Math.max(lowest, value))
  }
  throw new HardwareError('unsupported', `${name}: kind ${entry.kind} cannot be written`)
}

/** The value that the body drives when no program does (HANDLES 6.2); null for `hold` and for kinds without a value. */
export function safeValue(entry: BoardHandle): number | null {
  if (entry.kind !== 'output' && entry.kind !== 'pwm' && entry.kind !== 'servo') return null
  return entry.safe === 'hold' ? null : entry.safe
}
