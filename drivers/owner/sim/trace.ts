/** The trace of writes and level changes in the simulated world: a ring of the newest entries. */
import type { SupportedKind } from '../../program/handle.ts'

export interface TraceEntry {
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
  readonly #ring: TraceEntry[] = []
  readonly #listeners = new Set<(change: TraceEntry) => void>()
  #next = 0

  constructor(size: number) {
    this.#size = size
  }

  add(change: TraceEntry): void {
    this.#ring[this.#next++ % this.#size] = change
    for (const listener of this.#listeners) listener(change)
  }

  listen(listener: (change: TraceEntry) => void): () => void {
    const entry = (change: TraceEntry) => listener(change)
    this.#listeners.add(entry)
    return () => this.#listeners.delete(entry)
  }

  /** Number of entries ever added. */
  get count(): number {
    return this.#next
  }

  /**
   * Names of the driven handles that changed between two times (ns), once for each change; null when the trace no longer
   * reaches back to `fromNs`.
   */
  changesBetween(fromNs: number, toNs: number): string[] | null {
    const recent = this.recent()
    if (this.count > recent.length && Number(recent[0]?.ns ?? 0) > fromNs) return null
    const inside = ({ ns }: TraceEntry) => Number(ns) > fromNs && Number(ns) < toNs
    return recent.filter((each) => each.changed && each.kind !== 'input' && inside(each)).map(({ name }) => name)
  }

  /** The entries that are kept, oldest first. */
  recent(): TraceEntry[] {
    const start = this.#next % this.#size
    return this.#next <= this.#size ? [...this.#ring] : [...this.#ring.slice(start), ...this.#ring.slice(0, start)]
  }
}
