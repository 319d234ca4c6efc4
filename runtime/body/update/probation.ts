/** Watches a runtime after its start until it has been healthy for a while (HANDOVER 17.6). */
import type { State } from '../slot/lifecycle.ts'

/** What is asked of the body. */
export interface ProbationSubject {
  /** The robot can be reached. */
  isServing(): boolean
  /** The slots whose program is to run. */
  slots(): Iterable<{ readonly name: string; readonly state: State }>
}

/** Before MEDULLA_TIME_SCALE. */
const HEALTHY_MS = 10_000
const LOOK_MS = 50
/** A slot in any other state runs its program, or has found that it cannot. */
const BEGINNING: ReadonlySet<State> = new Set(['idle', 'starting', 'restarting', 'proving', 'committing-alone'])

export class Probation {
  readonly #timer: NodeJS.Timeout
  readonly #settled = new Set<string>()
  #healthySince: number | null = null
  #isOver = false

  /** Calls `passed` once. */
  constructor(subject: ProbationSubject, scale: number, passed: () => void) {
    this.#timer = setInterval(() => {
      const now = performance.now()
      if (!this.#isHealthy(subject)) this.#healthySince = null
      else this.#healthySince ??= now
      if (this.#healthySince === null || now - this.#healthySince < HEALTHY_MS * scale) return
      this.end()
      this.#isOver = true
      passed()
    }, LOOK_MS)
  }

  /** The runtime has passed. */
  get isOver(): boolean {
    return this.#isOver
  }

  end(): void {
    clearInterval(this.#timer)
  }

  /** Every program has begun or failed once: that a program fails is no fault of the runtime. */
  #isHealthy(subject: ProbationSubject): boolean {
    for (const { name, state } of subject.slots()) if (!BEGINNING.has(state)) this.#settled.add(name)
    return subject.isServing() && [...subject.slots()].every(({ name }) => this.#settled.has(name))
  }
}
