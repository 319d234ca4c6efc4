/** The trace of a simulated robot: every write that reached its world, in order of arrival. */
import { closeSync, existsSync, openSync, readSync } from 'node:fs'
import { expect } from 'vitest'
import { LineSplitter } from '../../deploy/shared/linesplitter.ts'
import { eventually } from './eventually.ts'

export interface Entry {
  name: string
  kind: string
  value: number
  ns: bigint
  fence: number
  accepted: boolean
  changed: boolean
}

/** Follows the file as it grows. */
export class Trace {
  readonly path: string
  readonly #entries: Entry[] = []
  readonly #chunk = Buffer.alloc(1 << 20)
  readonly #splitter = new LineSplitter()
  #at = 0

  constructor(path: string) {
    this.path = path
  }

  /** All entries so far; always the same, growing array. */
  read(): readonly Entry[] {
    if (!existsSync(this.path)) return this.#entries
    const fd = openSync(this.path, 'r')
    try {
      for (;;) {
        const got = readSync(fd, this.#chunk, 0, this.#chunk.length, this.#at)
        if (got === 0) return this.#entries
        this.#at += got
        for (const line of this.#splitter.push(this.#chunk.toString('latin1', 0, got))) {
          const { ns, ...entry } = JSON.parse(line) as Omit<Entry, 'ns'> & { ns: string }
          this.#entries.push({ ...entry, ns: BigInt(ns) })
        }
      }
    } finally {
      closeSync(fd)
    }
  }

  /** The index of the next entry. */
  mark(): number {
    return this.read().length
  }

  /** Returns and removes the entries since the last call, for traces that are too long to keep. */
  take(): Entry[] {
    this.read()
    return this.#entries.splice(0)
  }

  since(mark: number): Entry[] {
    return this.read().slice(mark)
  }

  /** Resolves after `count` more accepted writes of a handle. */
  async more(name: string, count = 20): Promise<Entry[]> {
    const mark = this.mark()
    return eventually(() => {
      const seen = this.since(mark).filter((entry) => entry.name === name && entry.accepted)
      return seen.length >= count && seen
    })
  }
}

export const accepted = (entries: readonly Entry[], name: string): Entry[] =>
  entries.filter((entry) => entry.name === name && entry.accepted)

/** The counts of the programs in test/programs, which they write to the dial. */
export const countOf = (entry: Entry): number => Math.round(entry.value * 1e6)

export const counts = (entries: readonly Entry[]): number[] => accepted(entries, 'dial').map(countOf)

/** Expects every count once: no tick lost, counted twice, or counted anew. */
export function expectNoTickLost(entries: readonly Entry[]): void {
  const seen = counts(entries)
  const breaks = seen.flatMap((n, i) => (i > 0 && n !== (seen[i - 1] ?? 0) + 1 ? [`${seen[i - 1]} -> ${n}`] : []))
  expect(breaks).toEqual([])
}

/**
 * Expects that two writers never interleave, neither in order of arrival nor by their own timestamps. A thread that
 * bypasses the SDK may be frozen between timestamp and write: then only the order of arrival counts.
 */
export function expectOneWriter(entries: readonly Entry[], { stamped = true } = {}): void {
  for (const name of new Set(entries.map((entry) => entry.name))) {
    const writes = accepted(entries, name).filter((entry) => entry.kind !== 'input')
    const byStamp = [...writes].sort((a, b) => Number(a.ns - b.ns))
    for (const order of stamped ? [writes, byStamp] : [writes]) {
      const back = order.filter((entry, i) => entry.fence < (order[i - 1]?.fence ?? 0))
      expect(back, `${name}: a fencing number went back`).toEqual([])
    }
  }
}

/** Expects that `enable` was switched on once, by the first program, and then held. */
export function expectHeld(entries: readonly Entry[]): void {
  const edges = entries.filter((entry) => entry.name === 'enable' && entry.changed)
  expect(edges.map(({ value }) => value)).toEqual([1])
}
