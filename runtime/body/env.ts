/** What a slot is given; everything that differs between robot, simulator and test is here. */
import type { Receipt } from '../../deploy/api.ts'
import type { Timing } from '../../drivers/board.ts'
import type { Checkpoint } from '../store/checkpoint.ts'
import type { ReceiptFields } from '../store/receipts.ts'
import type { Owner } from './owner.ts'
import type { RunDirs } from './rundir.ts'
import type { Runnable } from './upgrade.ts'

export interface SlotEnv {
  readonly owner: Owner
  readonly dirs: RunDirs
  /** ms, already scaled */
  readonly timing: Timing
  readonly realtime: number
  /** Changes of the slot's outputs in this window (ns of CLOCK_MONOTONIC); null where the backend cannot count them. */
  edges(slot: string, fromNs: number, toNs: number): number | null
  receipt(fields: ReceiptFields): Promise<Receipt>
  /** The digest runs in the slot from now on, also after a restart of the runtime. */
  commit(slot: string, runnable: Runnable, raiseFloor: boolean): Promise<void>
  undone(digest: string): Promise<void>
  setStopped(slot: string, stopped: boolean): Promise<void>
  saveCheckpoint(slot: string, checkpoint: Checkpoint): Promise<void>
  /** null when there is none for this program, or when it cannot be used. */
  loadCheckpoint(slot: string, runnable: Runnable): Promise<Checkpoint | null>
  /** The committed program of the slot, or the last good one when its bytes were changed on disk. */
  committed(slot: string): Promise<Runnable | null>
}
