/**
 * Invariant: a failed write to disk never keeps a slot from stopping: the failure is logged, and the slot goes on (HANDLES
 * 6.11; test/e2e/disk.test.ts).
 *
 * What a slot writes about starts, stops and failures; upgrades are in entries.ts.
 */
import type { Outcome } from '../../../deploy/shared/api.ts'
import type { SlotContext } from './context.ts'
import { checkOf, lifeEntry } from './entries.ts'
import type { Programs } from './programs.ts'
import type { Upgrade } from './upgrade.ts'

export class SlotRecords {
  /** Fingerprint of the operator who ordered the start; null when nobody did. */
  startedBy: string | null = null
  stoppedBy: string | null = null
  readonly #slot: string
  readonly #store: SlotContext['store']
  readonly #ledger: SlotContext['ledger']
  readonly #note: (level: string, text: string) => void

  constructor(
    slot: string,
    { store, ledger }: Pick<SlotContext, 'store' | 'ledger'>,
    note: (level: string, text: string) => void,
  ) {
    this.#slot = slot
    this.#store = store
    this.#ledger = ledger
    this.#note = note
  }

  /** Records that the program is not to be started at boot. Resolves to null, or to why that is not on disk. */
  stopped(): Promise<string | null> {
    return this.#written('the stop', this.#store.setStopped(true))
  }

  /** Records that the release failed through its own fault, so that it is refused until `--retry` (HANDOVER 7.7). */
  undone({ to, pusher = '' }: Pick<Upgrade, 'to' | 'pusher'>): Promise<string | null> {
    return this.#written('that this release failed', this.#store.undone(to, pusher))
  }

  /** The receipt of a start, a restart or a stop. */
  async life(outcome: Outcome, { fence, last }: Pick<Programs, 'fence' | 'last'>): Promise<void> {
    const runs = last?.runnable ?? null
    const check = outcome === 'stopped' ? {} : checkOf(runs)
    const entry = { ...lifeEntry(this.#slot, outcome, fence, { runs, cause: null }), ...check }
    const by = outcome === 'started' ? this.startedBy : outcome === 'stopped' ? this.stoppedBy : null
    await this.#ledger.receipt(by === null ? entry : { ...entry, pusher: by })
  }

  /** The receipt of a crash or a wait. `failures`: crashes in a row. */
  async failed(outcome: Outcome, fence: number, about: Parameters<typeof lifeEntry>[3]): Promise<void> {
    await this.#ledger.receipt(lifeEntry(this.#slot, outcome, fence, about))
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
