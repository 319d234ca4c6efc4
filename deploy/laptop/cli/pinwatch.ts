/** Follows the pins of a robot and draws them: a cell per 25 ms, high or low. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { PinChange } from '../../shared/api.ts'

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

  readonly #keepMs: number

  /** Changes older than `keepMs` may be forgotten; then `edges` does not count them. */
  constructor(source: AsyncIterable<PinChange>, keepMs = Number.POSITIVE_INFINITY) {
    this.#keepMs = keepMs
    this.ended = this.#collect(source).catch(() => {}) // its end is that of the session
  }

  async #collect(source: AsyncIterable<PinChange>): Promise<void> {
    for await (const { name, value, ns } of source) {
      const at = Number(BigInt(ns) / 1000n) / 1000
      // a change arrives after it happened: the smallest difference is the best guess
      this.#offset = Math.max(this.#offset ?? Number.NEGATIVE_INFINITY, at - performance.now())
      const list = this.#changes.get(name) ?? []
      this.#changes.set(name, list)
      if (list.at(-1)?.value === value) continue
      list.push({ at, value })
      const half = list.length >> 1
      if (half > 32 && (list[half]?.at ?? at) < at - this.#keepMs) list.splice(0, half)
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

/** Values from `low` to `high` are drawn as heights; without it a value is high or low. */
export interface Scale {
  low: number
  high: number
}

const HEIGHTS = [...'▁▂▃▄▅▆▇█']

/** A pin that changed once within a cell shows its last level there; one that changed more often is grey. */
export function pinStrip(
  changes: readonly Change[],
  { from, to }: Window,
  cellMs: number = CELL_MS,
  scale: Scale | null = null,
): string {
  let strip = ''
  let next = 0
  let value: number | undefined
  for (let end = from + cellMs; end <= to + 0.5; end += cellMs) {
    const first = next
    for (let change = changes[next]; change !== undefined && change.at <= end; change = changes[++next])
      value = change.value
    if (value === undefined) strip += ' '
    else if (scale !== null) strip += height(value, scale)
    else strip += next - first > 1 && end > from + cellMs ? '▒' : value > 0 ? '▔' : '▁'
  }
  return strip
}

function height(value: number, { low, high }: Scale): string {
  const part = high > low ? (value - low) / (high - low) : 0
  return HEIGHTS[Math.max(0, Math.min(7, Math.round(part * 7)))] ?? ' '
}
