/** What a slot needs from its surroundings: robot, simulator and test implement it differently. */
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

/** Starts an instance of a program; `exit` is called once when it ends, for whatever reason. */
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
  /** MEDULLA_TIME_SCALE, for the times that are not in the board file. */
  readonly timeScale: number
  readonly launch: Launch
  /** A launch has ended: prepare the folder of the next one now. */
  prepare(): void
  /** After each event: the running program when no upgrade is under way and a push would be accepted, else null. */
  onIdle(slot: string, log: SlotLog, running: Running | null): void
  /** Throws Refusal when nothing may be started in this slot now. */
  admit(slot: string): void
  /** Why this program cannot run in the slot at present; null when it can (HANDOVER 9.9). */
  unfit(slot: string, runnable: Runnable): Refusal | null
  /** Whether the slot keeps a release for a rollback. */
  canGoBack(slot: string): boolean
  /** Called at every crash, with or without a receipt. */
  crashed(slot: string, cause: Cause): void
  /** The longest run, the crashes and the health of a release; null when it has no record. */
  runOf(slot: string, digest: string): ReleaseRun | null
  /** `written` false: it reaches the disk with the next write of the slot's record. */
  saveRun(slot: string, digest: string, run: ReleaseRun, written: boolean): Promise<void>
  /** Changes of the slot's outputs in this window (ns of CLOCK_MONOTONIC); null where the backend cannot count them. */
  edges(slot: string, fromNs: number, toNs: number): number | null
  /** Null when the receipt could not be written; never rejects. */
  receipt(entry: Entry): Promise<Receipt | null>
  /** Records the release as the one that runs in the slot, also after a restart of the runtime. */
  commit(slot: string, runnable: Runnable, raiseFloor: boolean): Promise<void>
  /** Remembers that the release failed through its own fault. */
  undone(slot: string, runnable: Runnable, pusher: string): Promise<void>
  setStopped(slot: string, stopped: boolean): Promise<void>
  /** Parameters that were set, by program, from disk; null for a slot without a commit. */
  params(slot: string): ParamSets | null
  saveParams(slot: string, sets: ParamSets): Promise<void>
  saveCheckpoint(slot: string, checkpoint: Checkpoint): Promise<void>
  /** Null when this program has no checkpoint, or none that can be used. */
  loadCheckpoint(slot: string, runnable: Runnable): Promise<Checkpoint | null>
  /**
   * The committed program of the slot; when its bundle is damaged, the release before it. Null when nothing was committed;
   * throws Refusal when every bundle is damaged or gone.
   */
  committed(slot: string): Promise<Runnable | null>
}
