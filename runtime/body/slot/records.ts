/**
 * Invariant: a failed write to disk never keeps a slot from stopping: the failure is logged, and the slot goes on (HANDLES
 * 6.11; test/e2e/disk.test.ts).
 *
 * What a slot writes about starts, stops and failures; upgrades are in entries.ts.
 */
import type { Outcome } from '../../../deploy/shared/api.ts'
import { lifeEntry } from './entries.ts'
import type { SlotEnv } from './env.ts'
import type { Programs } from './programs.ts'
import type { Upgrade } from './upgrade.ts'

export class SlotRecords {
  /** Fingerprint of the operator who ordered the start; null when nobody did. */
  startedBy: string | null = null
  stoppedBy: string | null = null
  readonly #slot: string
  readonly #env: Pick<SlotEnv, 'receipt' | 'setStopped' | 'undone'>
  readonly #note: (level: string, text: string) => void

  constructor(
    slot: string,
    env: Pick<SlotEnv, 'receipt' | 'setStopped' | 'undone'>,
    note: (level: string, text: string) => void,
  ) {
    this.#slot = slot
    this.#env = env
    this.#note = note
  }

  /** Records that the program is not to be started at boot. Resolves to null, or to why that is not on disk. */
  stopped(): Promise<string | null> {
    return this.#written('the stop', this.#env.setStopped(this.#slot, true))
  }

  /** Records that the release failed through its own fault, so that it is refused until `--retry` (HANDOVER 7.7). */
  undone({ to, pusher = '' }: Pick<Upgrade, 'to' | 'pusher'>): Promise<string | null> {
    return this.#written('that this release failed', this.#env.undone(this.#slot, to, pusher))
  }

  /** The receipt of a start, a restart or a stop. */
  async life(outcome: Outcome, { fence, last }: Pick<Programs, 'fence' | 'last'>): Promise<void> {
    const entry = lifeEntry(this.#slot, outcome, fence, { runs: last?.runnable ?? null, cause: null })
    const by = outcome === 'started' ? this.startedBy : outcome === 'stopped' ? this.stoppedBy : null
    await this.#env.receipt(by === null ? entry : { ...entry, pusher: by })
  }

  /** The receipt of a crash or a wait. `failures`: crashes in a row. */
  async failed(outcome: Outcome, fence: number, about: Parameters<typeof lifeEntry>[3]): Promise<void> {
    await this.#env.receipt(lifeEntry(this.#slot, outcome, fence, about))
  }

  async #written(what: string, written: Promise<void>): Promise<string | null> {
    try {
      await written
      return null
    } catch (error) {
      const problem = `${what} is not on disk: ${(error as Error).message}`
      this.#note('error', problem)
      return problem
    }
  }
}
