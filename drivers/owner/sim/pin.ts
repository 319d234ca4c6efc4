/** Invariant: the state of one handle in the world; only the world changes it. */
import { placeOf } from '../../board/places.ts'
import type { BoardHandle } from '../../board/types.ts'
import type { Edge, Level, SupportedKind } from '../../program/handle.ts'
import type { Slew } from '../../program/slew.ts'

export interface Pin {
  readonly name: string
  readonly line: string
  entry: BoardHandle
  held: boolean
  /** Logical level, or duty cycle. */
  value: number
  /** Highest fencing number that wrote. */
  fence: number
  /** Of a handle whose value may only change at a rate, and the fence of who moves it. */
  slew: Slew | null
  writer: number
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
    slew: null,
    writer: 0,
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
