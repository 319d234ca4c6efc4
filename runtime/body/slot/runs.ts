/**
 * Invariant: how a release did is on disk when it changes for the choice of a rollback, and else written at most once for
 * each doubling of the time that it runs (HANDOVER 7.11).
 */
import type { ReleaseRun } from '../../../deploy/shared/api.ts'
import type { SlotEnv } from './env.ts'
import type { Programs } from './programs.ts'
import type { Running } from './running.ts'

/** A run of this length is a good one. ms, before MEDULLA_TIME_SCALE */
const WELL_MS = 60_000
/** Between two writes, at most: setTimeout takes no more than 24 days. */
const MOST_MS = 24 * 3_600_000

export class Runs {
  readonly #slot: string
  readonly #env: Pick<SlotEnv, 'runOf' | 'saveRun' | 'timeScale'>
  readonly #programs: Pick<Programs, 'role'>
  readonly #note: (level: string, text: string) => void
  /** The run that is under way. */
  #running: Running | null = null
  #timer: NodeJS.Timeout | null = null

  constructor(
    slot: string,
    env: Pick<SlotEnv, 'runOf' | 'saveRun' | 'timeScale'>,
    programs: Pick<Programs, 'role'>,
    note: (level: string, text: string) => void,
  ) {
    this.#slot = slot
    this.#env = env
    this.#programs = programs
    this.#note = note
  }

  /** A committed program runs from now on. */
  begin(running: Running | null): void {
    this.rest()
    this.#running = running
    if (running !== null) this.#wait(this.#wellMs)
  }

  /** It was stopped, or another program is committed in its place. */
  ended(): void {
    const running = this.#running
    this.begin(null)
    if (running !== null) this.#save(running, (run) => ({ ...run, well: run.well || run.crashes === 0 }))
  }

  /** `recorded`: this crash is one that is written down (HANDOVER 9.10). */
  crashed(recorded: boolean): void {
    const running = this.#running
    this.begin(null)
    if (running === null) return
    const crashMs = Math.round(performance.now() - running.startedAt)
    const well = (run: ReleaseRun) => run.well && crashMs >= this.#wellMs
    this.#save(running, (run) => ({ ...run, well: well(run), crashes: run.crashes + 1, crashMs }), recorded)
  }

  rest(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  get #wellMs(): number {
    return WELL_MS * this.#env.timeScale
  }

  #wait(ms: number): void {
    this.#timer = setTimeout(() => this.#ranOn(), Math.min(ms, MOST_MS))
    this.#timer.unref()
  }

  #ranOn(): void {
    const running = this.#running
    const role = running === null ? null : this.#programs.role(running)
    if (running === null || role === null) return this.begin(null)
    const ranMs = performance.now() - running.startedAt
    this.#wait(Math.max(ranMs, this.#wellMs))
    // parked, in the trial of another one: that is no running
    if (role === 'current') this.#save(running, (run) => ({ ...run, well: true }))
  }

  #save(running: Running, change: (run: ReleaseRun) => ReleaseRun, written = true): void {
    const { digest } = running.runnable
    const before = this.#env.runOf(this.#slot, digest) ?? { ranMs: 0, well: false, crashes: 0, crashMs: null }
    const ranMs = Math.max(before.ranMs, Math.round(performance.now() - running.startedAt))
    this.#env
      .saveRun(this.#slot, digest, change({ ...before, ranMs }), written)
      .catch((error: Error) => this.#note('error', `how the release did is not on disk: ${error.message}`))
  }
}
