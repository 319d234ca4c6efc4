/** The trace of writes and level changes in the simulated world: a ring of the newest entries. */
import type { SupportedKind } from '../../program/handle.ts'

export interface Change {
  readonly name: string
  readonly kind: SupportedKind
  readonly line: string
  /** Logical level, duty cycle or degrees. */
  readonly value: number
  /** Time of the write, or of the change of an input. */
  readonly ns: bigint
  /** 0 for inputs and initial values. */
  readonly fence: number
  /** false: the write was refused for its fence, and the value was not applied. */
  readonly accepted: boolean
  /** false: the handle had this value already, or the write was refused. */
  readonly changed: boolean
}

export class Trace {
  readonly #size: number
  readonly #ring: Change[] = []
  readonly #listeners = new Set<(change: Change) => void>()
  #next = 0

  constructor(size: number) {
    this.#size = size
  }

  add(change: Change): void {
    this.#ring[this.#next++ % this.#size] = change
    for (const listener of this.#listeners) listener(change)
  }

  listen(listener: (change: Change) => void): () => void {
    const entry = (change: Change) => listener(change)
    this.#listeners.add(entry)
    return () => this.#listeners.delete(entry)
  }

  /** Number of entries ever added. */
  get count(): number {
    return this.#next
  }

  /** The entries that are kept, oldest first. */
  recent(): Change[] {
    const start = this.#next % this.#size
    return this.#next <= this.#size ? [...this.#ring] : [...this.#ring.slice(start), ...this.#ring.slice(0, start)]
  }
}
