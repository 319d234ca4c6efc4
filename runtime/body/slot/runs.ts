/**
 * Records how well each release runs, for the choice of a rollback. The record is written when the choice could change, and
 * otherwise at most once for each doubling of the run's length (HANDOVER 7.11).
 */
import type { ReleaseRun } from '../../../deploy/shared/api.ts'
import type { SlotStore } from './context.ts'
import type { Programs } from './programs.ts'
import type { Running } from './running.ts'

/** A release that ran this long ran well. ms, before MEDULLA_TIME_SCALE */
const WELL_MS = 60_000
/** Longest time between two writes, because setTimeout takes at most 24 days. ms */
const MOST_MS = 24 * 3_600_000

export class Runs {
  readonly #store: Pick<SlotStore, 'runOf' | 'saveRun'>
  readonly #wellMs: number
  readonly #programs: Pick<Programs, 'role'>
  readonly #note: (level: string, text: string) => void
  /** The program whose run is being timed. */
  #running: Running | null = null
  #timer: NodeJS.Timeout | null = null

  constructor(
    store: Pick<SlotStore, 'runOf' | 'saveRun'>,
    timeScale: number,
    programs: Pick<Programs, 'role'>,
    note: (level: string, text: string) => void,
  ) {
    this.#store = store
    this.#wellMs = WELL_MS * timeScale
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
    const before = this.#store.runOf(digest) ?? { ranMs: 0, well: false, crashes: 0, crashMs: null }
    const ranMs = Math.max(before.ranMs, Math.round(performance.now() - running.startedAt))
    this.#store
      .saveRun(digest, change({ ...before, ranMs }), written)
      .catch((error: Error) =>
        this.#note('error', `the record of this release's runs could not be written: ${error.message}`),
      )
  }
}
