/** The backoff between restarts: it doubles with each crash (HANDOVER 9.2). */

import { Backoff } from '../../plumbing/backoff.ts'

const FIRST_MS = 100
/** After a run of this length the backoff begins at FIRST_MS again. ms */
const CALM_MS = 10_000

export class Restarts {
  /** Restarts after crashes, since the runtime began. */
  total = 0
  readonly #backoff: Backoff
  #isRestart = false
  /** performance.now() at which the program began to run; null while none runs. */
  #ranSince: number | null = null
  #timer: NodeJS.Timeout | null = null

  constructor(mostMs: number) {
    this.#backoff = new Backoff(FIRST_MS, mostMs)
  }

  /** Calls `start` after the backoff: the program crashed, or could not be started. */
  later(start: () => void): void {
    if (this.#ranSince !== null && performance.now() - this.#ranSince > CALM_MS) this.#backoff.reset()
    this.#ranSince = null
    this.#timer = setTimeout(start, this.#backoff.nextMs())
    this.expectRestart()
  }

  /** The next start counts as a restart. */
  expectRestart(): void {
    this.#isRestart = true
  }

  /** Whether the next start is a restart of the program that ran before. */
  get isRestartDue(): boolean {
    return this.#isRestart
  }

  /** The program goes on that the last runtime left running. */
  goOn(total: number): void {
    this.total = total
    this.#ranSince = performance.now()
  }

  cancel(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  /** The program runs. Returns true after a start, false after a restart. */
  back(): boolean {
    const isRestart = this.#isRestart
    this.#isRestart = false
    this.#ranSince = performance.now()
    if (isRestart) this.total++
    return !isRestart
  }

  /** Ends the series of crashes: a program passed its trial, was stopped, or waits. */
  reset(): void {
    this.#backoff.reset()
    this.#isRestart = false
    this.#ranSince = performance.now()
  }
}
