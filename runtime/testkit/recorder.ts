/** Records every change of every handle's value, in order of time. */
import type { TraceEntry } from '../../drivers/owner/sim/trace.ts'

/** Limit for all handles together; a change takes 16 bytes. */
const MAX_CHANGES = 10_000_000

export interface Moment {
  /** ms since the start of the simulation. */
  readonly ms: number
  readonly value: number
}

interface Record {
  readonly ns: number[]
  readonly values: number[]
}

export class Recorder {
  readonly #records = new Map<string, Record>()
  readonly #now: () => number
  readonly #most: number
  #count = 0

  /** `now` returns ns since the start. */
  constructor(now: () => number, most = MAX_CHANGES) {
    this.#now = now
    this.#most = most
  }

  /** Records the value at the start. */
  begin(name: string, value: number): void {
    this.#records.set(name, { ns: [0], values: [value] })
  }

  take({ name, value, accepted, changed }: TraceEntry): void {
    const record = this.#records.get(name)
    if (record === undefined || !accepted || !changed) return
    if (++this.#count > this.#most) throw new RangeError(`a simulation records at most ${this.#most} changes`)
    record.ns.push(this.#now())
    record.values.push(value)
  }

  /** The present time, in ns since the start. */
  get ns(): number {
    return this.#now()
  }

  /** The value at the start. */
  first(name: string): number {
    return this.#records.get(name)?.values[0] ?? 0
  }

  names(): string[] {
    return [...this.#records.keys()]
  }

  /** The value at the start, then every change. Throws for a handle that has no values. */
  of(name: string): Moment[] {
    const record = this.#records.get(name)
    if (record === undefined) throw new RangeError(`${name}: the board has no such handle, or it has no value`)
    return record.ns.map((ns, at) => ({ ms: ns / 1e6, value: record.values[at] as number }))
  }

  /** Every change of every handle, in order of time, without the values at the start. */
  *all(): Generator<{ ns: number; name: string; value: number }> {
    const cursors = [...this.#records].map(([name, record]) => ({ name, record, at: 1 }))
    for (;;) {
      let first: (typeof cursors)[number] | undefined
      for (const cursor of cursors) {
        const ns = cursor.record.ns[cursor.at]
        const least = first?.record.ns[first.at]
        if (ns !== undefined && (least === undefined || ns < least)) first = cursor
      }
      if (first === undefined) return
      const { name, record } = first
      yield { ns: record.ns[first.at] as number, name, value: record.values[first.at++] as number }
    }
  }
}
