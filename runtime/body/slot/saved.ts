/** What the next runtime needs to go on with the running program of a slot (HANDOVER 18). */
import type { SavedChild } from '../sandbox/savedchild.ts'
import type { SavedLog } from './log.ts'
import type { Runnable } from './running.ts'

export interface SavedSlot {
  readonly slot: string
  readonly log: SavedLog
  /** Null: no program runs. */
  readonly program: SavedProgram | null
}

export interface SavedProgram {
  readonly runnable: Omit<Runnable, 'stored' | 'extract'>
  readonly child: SavedChild
  readonly generation: number
  readonly fence: number
  /** How long it has been running, in ms. */
  readonly ranMs: number
  readonly restarts: number
  readonly lastGapMs: number | null
}
