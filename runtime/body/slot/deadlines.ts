/** The deadline of each lifecycle state that waits for a program; running and idle wait for nothing (HANDOVER 10.1). */
import type { Timing } from '../../../drivers/board/types.ts'
import { Timeout } from '../../plumbing/timeout.ts'
import { FACTS, type State } from './lifecycle.ts'

/** A program that was told to stop is killed after this time. ms, before MEDULLA_TIME_SCALE */
const STOP_MS = 1000
/**
 * ms, before MEDULLA_TIME_SCALE. When the old program dies during a handover, the candidate has this long to take over:
 * safe levels are due 250 ms after the death (HANDLES 6.6).
 */
const ORPHAN_MS = 150
/** Extra time for a takeover in ms, for each MiB of state that the candidate reads, hashes and decodes (HANDOVER 6.12). */
export const TAKEOVER_MS_PER_MIB = 20

/** How long a program may take for its onLive ends and for `onStop`, in ms: less than the body waits (HANDOVER 13.7, 9.3). */
export const farewells = ({ yieldMs }: Timing, scale: number) => ({ endMs: yieldMs / 2, stopMs: 0.8 * STOP_MS * scale })

export class Deadline {
  readonly #timing: Timing
  readonly #scale: number
  readonly #timeout = new Timeout()

  constructor(timing: Timing, scale: number) {
    this.#timing = timing
    this.#scale = scale
  }

  /** Replaces the previous deadline; a state that waits for nothing has none. `stateBytes`: length of the state handed over. */
  arm(state: State, stateBytes: number, late: () => void): void {
    this.disarm()
    const ms = this.lengthMs(state, stateBytes)
    if (ms === null) return
    this.#timeout.set(ms, late)
  }

  disarm(): void {
    this.#timeout.clear()
  }

  /** ms; null for a state that waits for nothing. */
  lengthMs(state: State, stateBytes: number): number | null {
    const { readyMs, yieldMs, takeoverMs } = this.#timing
    switch (FACTS[state].waits) {
      case 'ready':
        return readyMs
      case 'yield':
        return yieldMs
      case 'takeover':
        return takeoverMs + (stateBytes / 2 ** 20) * TAKEOVER_MS_PER_MIB * this.#scale
      case 'orphan':
        return ORPHAN_MS * this.#scale
      case 'stop':
        return STOP_MS * this.#scale
      case null:
        return null
    }
  }
}
