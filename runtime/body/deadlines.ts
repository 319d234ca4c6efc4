/** Invariant: every state in which something is awaited has a deadline; running and idle await nothing (HANDOVER 10.1). */
import type { Timing } from '../../drivers/board.ts'
import type { State } from './lifecycle.ts'
import { Timeout } from './timeout.ts'

/** A program that was told to stop is killed after this. */
const STOP_MS = 1000

export class Deadline {
  readonly #timing: Timing
  readonly #timeout = new Timeout()

  constructor(timing: Timing) {
    this.#timing = timing
  }

  /** Replaces the one before; a state that awaits nothing has none. */
  arm(state: State, late: () => void): void {
    this.disarm()
    const wait = deadlineOf(state, this.#timing)
    if (wait !== null) this.#timeout.set(wait, late)
  }

  disarm(): void {
    this.#timeout.clear()
  }
}

function deadlineOf(state: State, t: Timing): number | null {
  switch (state) {
    case 'starting':
    case 'restarting':
    case 'preparing':
    case 'preloading':
    case 'arming':
    case 'orphaned':
    case 'resuming':
      return t.readyMs
    case 'copying':
    case 'yielding':
    case 'undoing':
      return t.yieldMs
    case 'stopping':
      return STOP_MS
    default:
      return null
  }
}
