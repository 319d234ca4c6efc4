/**
 * Numbers, times and debounces the edges of an input with `"driver": "sysfs"`, which only notifies that its level has changed.
 *
 * The time is that of the notification. Changes that are faster than notifications count as one, and such a loss cannot
 * be detected (HANDLES 11.9).
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
    // a wrapper for each subscription, so that the same listener can subscribe twice
    const entry = (edge: Edge) => listener(edge)
    this.#listeners.add(entry)
    return () => this.#listeners.delete(entry)
  }

  /** Called when the line has changed and has this level. */
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

  /** Called when the line has not changed for the debounce period (HANDLES 9.3). */
  #settled(): void {
    const level = this.#read()
    // with edges "rising" or "falling" the change back is not notified, so the same level again is a new edge
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
