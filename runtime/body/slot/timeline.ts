/** Invariant: phases are consecutive intervals, so they add up to the wall time (HANDOVER 1.2; test/e2e/swap.test.ts). */
import type { Phase, PhaseTime } from '../../../deploy/shared/api.ts'
import { clockNs } from '../../sdk/ticker.ts'

export class Timeline {
  readonly startNs: number
  readonly #phases: { phase: Phase; startNs: number }[] = []
  readonly #listener: (phase: Phase, startMs: number) => void

  constructor(startNs: number, listener: (phase: Phase, startMs: number) => void) {
    this.startNs = startNs
    this.#listener = listener
  }

  /** Ends the last phase and begins this one; an `atNs` before the start of the last phase counts as that start. */
  begin(phase: Phase, atNs = clockNs()): void {
    const last = this.#phases.at(-1)
    if (last?.phase === phase) return
    const startNs = Math.max(atNs, last?.startNs ?? this.startNs)
    this.#phases.push({ phase, startNs: last === undefined ? this.startNs : startNs })
    this.#listener(phase, (startNs - this.startNs) / 1e6)
  }

  /** The last start of a phase, in ns of CLOCK_MONOTONIC; null when it has not begun. */
  begunNs(phase: Phase): number | null {
    return this.#phases.findLast((each) => each.phase === phase)?.startNs ?? null
  }

  end(atNs = clockNs()): { phases: PhaseTime[]; wallMs: number } {
    const endNs = Math.max(atNs, this.#phases.at(-1)?.startNs ?? this.startNs)
    const phases = this.#phases.map(({ phase, startNs }, i) => ({
      phase,
      startMs: (startNs - this.startNs) / 1e6,
      ms: ((this.#phases[i + 1]?.startNs ?? endNs) - startNs) / 1e6,
    }))
    return { phases, wallMs: (endNs - this.startNs) / 1e6 }
  }
}
