/** Invariant: a program that crashes again and again is started less and less often (HANDOVER 9.2). */

import { Backoff } from '../../plumbing/backoff.ts'

const FIRST_MS = 100
/** One that ran for so long begins at the first wait again. */
const CALM_MS = 10_000

export class Restarts {
  /** After crashes, since the runtime began. */
  total = 0
  readonly #backoff: Backoff
  #again = false
  /** performance.now(); null while nothing runs. */
  #ranSince: number | null = null
  #timer: NodeJS.Timeout | null = null

  constructor(mostMs: number) {
    this.#backoff = new Backoff(FIRST_MS, mostMs)
  }

  /** It crashed, or could not be started at all: then it was never calm. */
  later(start: () => void): void {
    if (this.#ranSince !== null && performance.now() - this.#ranSince > CALM_MS) this.#backoff.reset()
    this.#ranSince = null
    this.#timer = setTimeout(start, this.#backoff.nextMs())
    this.expectRestart()
  }

  /** The next start is of what ran before. */
  expectRestart(): void {
    this.#again = true
  }

  /** What ran before is about to be started again. */
  get isRestartDue(): boolean {
    return this.#again
  }

  cancel(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
  }

  /** It runs. True when this was a start and no restart. */
  back(): boolean {
    const again = this.#again
    this.#again = false
    this.#ranSince = performance.now()
    if (again) this.total++
    return !again
  }

  /** What crashed is over: it was proven in a trial, or stopped. */
  reset(): void {
    this.#backoff.reset()
    this.#again = false
    this.#ranSince = performance.now()
  }
}
