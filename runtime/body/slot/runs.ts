/**
 * Records how well each release runs, for the choice of a rollback. The record is written when the choice could change, and
 * otherwise at most once for each doubling of the run's length (HANDOVER 7.11).
 */
import type { ReleaseRun } from '../../../deploy/shared/api.ts'
import type { SlotEnv } from './env.ts'
import type { Programs } from './programs.ts'
import type { Running } from './running.ts'

/** A release that ran this long ran well. ms, before MEDULLA_TIME_SCALE */
const WELL_MS = 60_000
/** Longest time between two writes, because setTimeout takes at most 24 days. ms */
const MOST_MS = 24 * 3_600_000

export class Runs {
  readonly #slot: string
  readonly #env: Pick<SlotEnv, 'runOf' | 'saveRun' | 'timeScale'>
  readonly #programs: Pick<Programs, 'role'>
  readonly #note: (level: string, text: string) => void
  /** The program whose run is being timed. */
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

  /** A committed program begins to run. */
  begin(running: Running | null): void {
    this.rest()
    this.#running = running
    if (running !== null) this.#wait(this.#wellMs)
  }

  /** The program was stopped or replaced. */
  ended(): void {
    const running = this.#running
    this.begin(null)
    if (running !== null) this.#save(running, (run) => ({ ...run, well: run.well || run.crashes === 0 }))
  }

  /** `recorded`: this crash has a receipt (HANDOVER 9.10). */
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
    this.#timer = setTimeout(() => this.#onTimer(), Math.min(ms, MOST_MS))
    this.#timer.unref()
  }

  #onTimer(): void {
    const running = this.#running
    const role = running === null ? null : this.#programs.role(running)
    if (running === null || role === null) return this.begin(null)
    const ranMs = performance.now() - running.startedAt
    this.#wait(Math.max(ranMs, this.#wellMs))
    // A program that is parked, in the trial of its successor, does not run.
    if (role === 'current') this.#save(running, (run) => ({ ...run, well: true }))
  }

  #save(running: Running, change: (run: ReleaseRun) => ReleaseRun, written = true): void {
    const { digest } = running.runnable
    const before = this.#env.runOf(this.#slot, digest) ?? { ranMs: 0, well: false, crashes: 0, crashMs: null }
    const ranMs = Math.max(before.ranMs, Math.round(performance.now() - running.startedAt))
    this.#env
      .saveRun(this.#slot, digest, change({ ...before, ranMs }), written)
      .catch((error: Error) =>
        this.#note('error', `the record of this release's runs could not be written: ${error.message}`),
      )
  }
}
