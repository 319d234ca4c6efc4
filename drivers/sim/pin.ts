/** Invariant: the state of one handle in the world; only the world changes it. */
import { placeOf } from '../backend.ts'
import type { BoardHandle } from '../board.ts'
import { HardwareError } from '../errors.ts'
import type { Edge, Level, SupportedKind } from '../handle.ts'

export interface Pin {
  readonly name: string
  readonly line: string
  entry: BoardHandle
  held: boolean
  /** Logical level, or duty cycle. */
  value: number
  /** Highest fencing number that wrote. */
  fence: number
  opens: number
  initWrites: number
  edges: number
  staleWrites: number
  /** Inputs: a level from outside, instead of the board's pull. */
  pulled: Level | null
  /** Inputs: cancels a change that has not lasted long enough yet. */
  pending: (() => void) | null
  readonly listeners: Set<(edge: Edge) => void>
}

export function newPin(name: string, entry: BoardHandle): Pin {
  return {
    name,
    line: placeOf(entry),
    entry,
    held: false,
    value: 0,
    fence: 0,
    opens: 0,
    initWrites: 0,
    edges: 0,
    staleWrites: 0,
    pulled: null,
    pending: null,
    listeners: new Set(),
  }
}

export function kindOf(pin: Pin): SupportedKind {
  return pin.entry.kind
}

/** The value as the hardware takes it. Throws `other` for what is not one, `unsupported` for a kind without values. */
export function checkedValue(pin: Pin, value: number): number {
  const { entry, name } = pin
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
  throw new HardwareError('unsupported', `${name}: kind ${entry.kind} cannot be written`)
}
