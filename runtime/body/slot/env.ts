/** What a slot is given; everything that differs between robot, simulator and test is here. */
import type { Receipt, ReleaseRun } from '../../../deploy/shared/api.ts'
import type { Refusal } from '../../../deploy/shared/errors.ts'
import type { Timing } from '../../../drivers/board/types.ts'
import type { ParamValue } from '../../sdk/params.ts'
import type { FromProgram } from '../../sdk/wire.ts'
import type { Checkpoint } from '../../store/checkpoint.ts'
import type { ParamSets } from '../../store/slots.ts'
import type { Owner } from '../hardware/owner.ts'
import type { Cause } from './cause.ts'
import type { Entry } from './entries.ts'
import type { SlotLog } from './log.ts'
import type { ProgramInstance, Runnable, Running } from './running.ts'

/** Starts an instance; `exit` is called once, whatever ended it. */
export type Launch = (
  about: {
    slot: string
    log: SlotLog
    generation: number
    predecessor: ProgramInstance | null
    params: Record<string, ParamValue>
  },
  runnable: Runnable,
  on: { message(running: Running, message: FromProgram): void; exit(running: Running): void },
) => Promise<Running>

export interface SlotEnv {
  readonly owner: Owner
  /** ms, already scaled */
  readonly timing: Timing
  /** MEDULLA_TIME_SCALE: for the times that are no part of the board file. */
  readonly timeScale: number
  readonly launch: Launch
  /** Now is a good moment to make ready for the next launch. */
  prepare(): void
  /** After whatever happened: what runs undisturbed in the slot, or null. */
  onIdle(slot: string, log: SlotLog, running: Running | null): void
  /** Throws Refusal when nothing may be started in this slot now. */
  admit(slot: string): void
  /** Why this program cannot run in the slot as the robot is now; null when it can (HANDOVER 9.9). */
  unfit(slot: string, runnable: Runnable): Refusal | null
  /** The slot keeps a release to go back to. */
  canGoBack(slot: string): boolean
  /** Of every crash, whether it has a receipt or not. */
  crashed(slot: string, cause: Cause): void
  /** How a release did; null when that is not known. */
  runOf(slot: string, digest: string): ReleaseRun | null
  /** `written` false: on disk with whatever is written next. */
  saveRun(slot: string, digest: string, run: ReleaseRun, written: boolean): Promise<void>
  /** Changes of the slot's outputs in this window (ns of CLOCK_MONOTONIC); null where the backend cannot count them. */
  edges(slot: string, fromNs: number, toNs: number): number | null
  /** Null when it is not on disk; never rejects. */
  receipt(entry: Entry): Promise<Receipt | null>
  /** The digest runs in the slot from now on, also after a restart of the runtime. */
  commit(slot: string, runnable: Runnable, raiseFloor: boolean): Promise<void>
  undone(slot: string, runnable: Runnable, pusher: string): Promise<void>
  setStopped(slot: string, stopped: boolean): Promise<void>
  /** What was set of the parameters of each program, on disk; null for a slot that never committed anything. */
  params(slot: string): ParamSets | null
  saveParams(slot: string, sets: ParamSets): Promise<void>
  saveCheckpoint(slot: string, checkpoint: Checkpoint): Promise<void>
  /** null when there is none for this program, or when it cannot be used. */
  loadCheckpoint(slot: string, runnable: Runnable): Promise<Checkpoint | null>
  /** The committed program of the slot, or the last good one when its bytes were changed on disk. Throws Refusal when there is none. */
  committed(slot: string): Promise<Runnable | null>
}
