/** The state of one handle in the simulated world; only the world changes it. */
import { placeOf } from '../../board/places.ts'
import type { BoardHandle } from '../../board/types.ts'
import type { Edge, Level, SupportedKind } from '../../program/handle.ts'
import type { Slew } from '../../program/slew.ts'

export interface Pin {
  readonly name: string
  readonly line: string
  entry: BoardHandle
  held: boolean
  /** Logical level, duty cycle or degrees. */
  value: number
  /** The highest fencing number seen. */
  fence: number
  /** Limits the rate of change; null when the board file sets no `slew`. */
  slew: Slew | null
  /** Fence of the program whose motion is under way. */
  writer: number
  opens: number
  initWrites: number
  edges: number
  staleWrites: number
  /** Inputs: a level set by `pull`; null: the pull of the board file counts. */
  pulled: Level | null
  /** Inputs: cancels a change that has not yet lasted for the debounce period. */
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
