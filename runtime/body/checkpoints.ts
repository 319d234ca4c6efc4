/**
 * Invariant: what a crash goes back to was written by the running program, outside a swap, and hashed by the body before
 * it was kept (HANDOVER 9.1).
 */
import type { FromProgram } from '../sdk/wire.ts'
import type { SlotEnv } from './env.ts'
import { readSnapshot } from './snapshots.ts'
import type { Running } from './upgrade.ts'

type Offer = Extract<FromProgram, { t: 'checkpoint' }>

export class Checkpoints {
  readonly #slot: string
  readonly #env: Pick<SlotEnv, 'saveCheckpoint'>
  readonly #note: (level: string, text: string) => void
  #asked = 0
  #root = ''

  constructor(slot: string, env: Pick<SlotEnv, 'saveCheckpoint'>, note: (level: string, text: string) => void) {
    this.#slot = slot
    this.#env = env
    this.#note = note
  }

  ask({ child, runnable }: Running): void {
    if (runnable.manifest.state !== null) child.send({ t: 'checkpoint', n: ++this.#asked })
  }

  /** A state that has not changed since the last one is not written again. */
  take({ child, runnable: { program } }: Running, { n, snapshot, stateVersion, encoding }: Offer): void {
    if (n !== this.#asked || snapshot.root === this.#root) return
    try {
      const { state } = readSnapshot(child.options.dir.outbox, snapshot)
      this.#root = snapshot.root
      const time = new Date().toISOString()
      this.#env
        .saveCheckpoint(this.#slot, { program, stateVersion, encoding, time, bytes: state })
        .catch((error: unknown) => this.#note('error', `checkpoint not saved: ${String(error)}`))
    } catch (error) {
      this.#note('error', `checkpoint refused: ${error instanceof Error ? error.message : String(error)}`)
    }
  }
}
