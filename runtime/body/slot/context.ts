/** What a slot works with: each part has one implementation for a robot (on disk, with processes), and one for the test kit. */
import type { Receipt, ReleaseRun, SlotStatus } from '../../../deploy/shared/api.ts'
import type { Refusal } from '../../../deploy/shared/errors.ts'
import type { Timing } from '../../../drivers/board/types.ts'
import type { ParamValue } from '../../sdk/params.ts'
import type { FromProgram } from '../../sdk/wire.ts'
import type { Checkpoint } from '../../store/checkpoint.ts'
import type { ParamSets } from '../../store/slots.ts'
import type { HardwareOwner } from '../hardware/owner.ts'
import type { Cause } from './cause.ts'
import type { ReceiptEntry } from './entries.ts'
import type { SlotLog } from './log.ts'
import type { ProgramInstance, Runnable, Running } from './running.ts'

/** Of one slot. */
export interface SlotContext {
  readonly owner: HardwareOwner
  /** ms, already scaled */
  readonly timing: Timing
  /** MEDULLA_TIME_SCALE, for the times that are not in the board file. */
  readonly timeScale: number
  readonly log: SlotLog
  readonly launcher: Launcher
  readonly store: SlotStore
  readonly ledger: Ledger
}

export interface LaunchOrder {
  readonly slot: string
  readonly log: SlotLog
  readonly generation: number
  readonly predecessor: ProgramInstance | null
  readonly params: Record<string, ParamValue>
}

export interface LaunchListener {
  message(running: Running, message: FromProgram): void
  /** Called once when the instance ends, for whatever reason. */
  exit(running: Running): void
}

/** Starts instances of programs: as processes on a robot, inside the test's own process in the test kit. */
export interface Launcher {
  /** Throws Refusal when no program may be started at present. */
  admit(): void
  /** Why this program cannot run in the slot at present; null when it can (HANDOVER 9.9). */
  unfit(slot: string, runnable: Runnable): Refusal | null
  launch(order: LaunchOrder, runnable: Runnable, on: LaunchListener): Promise<Running>
  /** A launch has ended: prepare the folder of the next one now. */
  prepare(): void
  /** After each event: the running program when no upgrade is under way and a push would be accepted, else null. */
  onIdle(slot: string, log: SlotLog, running: Running | null): void
}

/** What is kept of one slot beyond the life of a program: on disk, or in the test kit's memory. */
export interface SlotStore {
  /**
   * The committed program; when its bundle is damaged, the newest of those before it that ran well. Null when nothing was committed; throws
   * Refusal when every bundle is damaged or gone.
   */
  committed(): Promise<Runnable | null>
  /** Whether this release is the committed one. */
  isCommitted(runnable: Runnable): boolean
  /** What `status` says of the slot from its record. `isIdle`: no program runs, or is about to. */
  status(isIdle: boolean): Pick<SlotStatus, 'previous' | 'alarm' | 'stopped'>
  /** Whether the slot keeps a release for a rollback. */
  readonly canGoBack: boolean
  /** Records the release as the one that runs in the slot, also after a restart of the runtime. */
  commit(runnable: Runnable, raiseFloor: boolean): Promise<void>
  /** Remembers that the release failed through its own fault. */
  undone(runnable: Runnable, pusher: string): Promise<void>
  setStopped(stopped: boolean): Promise<void>
  /** The longest run, the crashes and the health of a release; null when it has no record. */
  runOf(digest: string): ReleaseRun | null
  /** `written` false: it reaches the disk with the next write of the slot's record. */
  saveRun(digest: string, run: ReleaseRun, written: boolean): Promise<void>
  /** Parameters that were set, by program, from disk; null for a slot without a commit. */
  params(): ParamSets | null
  saveParams(sets: ParamSets): Promise<void>
  /** Null when the program of this name has no checkpoint. Throws Refusal `bad-state` when it was changed on disk. */
  loadCheckpoint(program: string): Promise<Checkpoint | null>
  saveCheckpoint(checkpoint: Checkpoint): Promise<void>
}

/** The robot's receipts. */
export interface Ledger {
  /** Null when the receipt could not be written, or is only counted (HANDOVER 8.18); never rejects. */
  receipt(entry: ReceiptEntry): Promise<Receipt | null>
  /** Hears of every crash, with or without a receipt. */
  crashed?(cause: Cause): void
}
