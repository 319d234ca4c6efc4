/** The backoff between restarts, which doubles with each crash (HANDOVER 9.2), and the number of restarts of a release. */

import { Backoff } from '../../plumbing/backoff.ts'

const FIRST_MS = 100
/** After a run of this length the backoff begins at FIRST_MS again. ms */
const CALM_MS = 10_000

export class Restarts {
  /** Restarts after crashes of the release `#counted`, since the runtime began or another release ran. */
  #total = 0
  #counted: string | null = null
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

  /** Restarts of this release; those of a release that ran before it are not counted. */
  of(digest: string | undefined): number {
    return digest === this.#counted ? this.#total : 0
  }

  /** From now on restarts of this release are counted. */
  count(digest: string): void {
    if (digest !== this.#counted) this.#total = 0
    this.#counted = digest
  }

  /** The program goes on that the last runtime left running. */
  goOn(digest: string, total: number): void {
    this.#counted = digest
    this.#total = total
    this.#ranSince = performance.now()
  }

  cancel(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  /** The program runs. Returns true after a start, false after a restart. */
  back(digest: string): boolean {
    const isRestart = this.#isRestart
    // Another release is started when the one that crashed was changed on disk (HANDOVER 9.13).
    const isSame = this.#counted === null || this.#counted === digest
    this.count(digest)
    this.#isRestart = false
    this.#ranSince = performance.now()
    if (isRestart && isSame) this.#total++
    return !isRestart
  }

  /** Ends the series of crashes: a program passed its trial, was stopped, or waits. */
  reset(): void {
    this.#backoff.reset()
    this.#isRestart = false
    this.#ranSince = performance.now()
  }
}
