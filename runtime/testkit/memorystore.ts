/** What a simulated robot keeps of its slot: the programs that it ran, and their states. */

import type { SlotStore } from '../body/slot/context.ts'
import type { Runnable } from '../body/slot/running.ts'
import type { Checkpoint } from '../store/checkpoint.ts'

export class MemorySlotStore<Program extends Runnable> implements SlotStore {
  /** The newest last. */
  #programs: Program[] = []
  readonly #checkpoints = new Map<string, Checkpoint>()

  /** The robot has this program on its disk when it is switched on. */
  install(program: Program): void {
    this.#programs = [program]
  }

  /** The newest committed program that is not this one. */
  before(running: Program | null): Program | null {
    return this.#programs.findLast((each) => each !== running) ?? null
  }

  async committed(): Promise<Program | null> {
    return this.#programs.at(-1) ?? null
  }

  isCommitted(runnable: Runnable): boolean {
    return runnable === this.#programs.at(-1)
  }

  get canGoBack(): boolean {
    return this.#programs.length > 1
  }

  async commit(runnable: Runnable): Promise<void> {
    this.#programs = [...this.#programs.filter((each) => each !== runnable), runnable as Program]
  }

  async loadCheckpoint(program: string): Promise<Checkpoint | null> {
    return this.#checkpoints.get(program) ?? null
  }

  async saveCheckpoint(checkpoint: Checkpoint): Promise<void> {
    this.#checkpoints.set(checkpoint.program, { ...checkpoint, bytes: new Uint8Array(checkpoint.bytes) })
  }

  status(): Record<string, never> {
    return {}
  }

  // Parameters are kept by the slot while the simulation lasts; the rest matters only after a restart of the runtime.
  params(): Record<string, never> {
    return {}
  }
  async saveParams(): Promise<void> {}
  async undone(): Promise<void> {}
  async setStopped(): Promise<void> {}
  runOf(): null {
    return null
  }
  async saveRun(): Promise<void> {}
}
