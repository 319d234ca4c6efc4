/**
 * Invariant: edges of a line that only says that something has changed are numbered and timed here, when they are seen.
 *
 * What changes faster than it is read is seen once: a loss cannot be noticed (HANDLES 11.9).
 */
import type { InputEntry } from '../../board/types.ts'
import type { Edge, Level } from '../../program/handle.ts'

export class LevelEdges {
  seqno: number
  readonly #entry: Pick<InputEntry, 'edges' | 'debounceMs'>
  readonly #read: () => Level
  readonly #listeners = new Set<(edge: Edge) => void>()
  #seen: Level
  #timer: NodeJS.Timeout | undefined

  constructor(entry: Pick<InputEntry, 'edges' | 'debounceMs'>, read: () => Level, seqno: number) {
    this.#entry = entry
    this.#read = read
    this.seqno = seqno
    this.#seen = read()
  }

  onEdge(listener: (edge: Edge) => void): () => void {
    // one entry for each call, also when a listener is given twice
    const entry = (edge: Edge) => listener(edge)
    this.#listeners.add(entry)
    return () => this.#listeners.delete(entry)
  }

  /** The line has changed, and is at this level now. */
  notified(level: Level): void {
    const { debounceMs } = this.#entry
    if (debounceMs === 0) {
      this.#edge(level)
      return
    }
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#settled(), debounceMs)
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#listeners.clear()
  }

  /** HANDLES 9.3: a level counts when it has lasted. */
  #settled(): void {
    const level = this.#read()
    // of one sort of edge only that one is told: the other way back is not
    if (this.#entry.edges !== 'both' || level !== this.#seen) this.#edge(level)
  }

  #edge(level: Level): void {
    this.#seen = level
    const { edges } = this.#entry
    if ((edges === 'rising' && level === 0) || (edges === 'falling' && level === 1)) return
    this.seqno++
    const edge: Edge = { level, ns: process.hrtime.bigint(), seqno: this.seqno }
    for (const listener of [...this.#listeners]) listener(edge)
  }
}
