/** Follows the pins of a robot and draws them: a cell per 25 ms, high or low. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { PinChange } from '../api.ts'

const CELL_MS = 25
const LIVE_MS = 50

export interface Change {
  /** ms of the robot's clock */
  at: number
  value: number
}
export interface Window {
  from: number
  to: number
}

export class PinWatch {
  readonly #changes = new Map<string, Change[]>()
  readonly ended: Promise<void>
  /** the robot's clock minus ours, in ms */
  #offset: number | undefined

  constructor(source: AsyncIterable<PinChange>) {
    this.ended = this.#collect(source).catch(() => {}) // its end is that of the session
  }

  async #collect(source: AsyncIterable<PinChange>): Promise<void> {
    for await (const { name, value, ns } of source) {
      const at = Number(BigInt(ns) / 1000n) / 1000
      // a change arrives after it happened: the smallest difference is the best guess
      this.#offset = Math.max(this.#offset ?? Number.NEGATIVE_INFINITY, at - performance.now())
      const list = this.#changes.get(name) ?? []
      this.#changes.set(name, list)
      if (list.at(-1)?.value !== value) list.push({ at, value })
    }
  }

  changes(name: string): readonly Change[] {
    return this.#changes.get(name) ?? []
  }

  value(name: string): number | undefined {
    return this.changes(name).at(-1)?.value
  }

  /** Since the start; the value found then is none. */
  edges(name: string): number {
    return Math.max(0, this.changes(name).length - 1)
  }

  recent(name: string, ms: number): number {
    const { from } = this.window(ms)
    return this.changes(name).filter(({ at }, index) => index > 0 && at >= from).length
  }

  /** The last `ms`, in the robot's time. */
  window(ms: number): Window {
    const to = performance.now() + (this.#offset ?? 0)
    return { from: to - ms, to }
  }

  async watch(ms: number, draw: (live: (name: string) => string) => void): Promise<void> {
    const end = performance.now() + ms
    while (performance.now() < end) {
      await sleep(LIVE_MS)
      draw((name) => pinStrip(this.changes(name), this.window(ms)))
    }
  }
}

/** A pin that changed within a cell shows its last level there. */
export function pinStrip(changes: readonly Change[], { from, to }: Window): string {
  let strip = ''
  let next = 0
  let value: number | undefined
  for (let end = from + CELL_MS; end <= to + 0.5; end += CELL_MS) {
    for (let change = changes[next]; change !== undefined && change.at <= end; change = changes[++next])
      value = change.value
    strip += value === undefined ? ' ' : value > 0 ? '▔' : '▁'
  }
  return strip
}
