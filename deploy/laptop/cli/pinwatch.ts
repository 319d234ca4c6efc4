/** Follows the pins of a robot, and draws the recent levels of a pin as a strip of characters. */
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
  /** the robot's clock minus performance.now(), in ms */
  #offset: number | undefined

  readonly #keepMs: number

  /** Changes older than `keepMs` may be dropped; then `edges` does not count them. */
  constructor(source: AsyncIterable<PinChange>, keepMs = Number.POSITIVE_INFINITY) {
    this.#keepMs = keepMs
    this.ended = this.#collect(source).catch(() => {}) // it fails when the session ends, which its owner sees by itself
  }

  async #collect(source: AsyncIterable<PinChange>): Promise<void> {
    for await (const { name, value, ns } of source) {
      const at = Number(BigInt(ns) / 1000n) / 1000
      // a change arrives after it happened: the least delay, so the greatest difference, is the best estimate
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

  /** Changes of a pin since the start; its first value is not a change. */
  edges(name: string): number {
    return Math.max(0, this.changes(name).length - 1)
  }

  recent(name: string, ms: number): number {
    const { from } = this.window(ms)
    return this.changes(name).filter(({ at }, index) => index > 0 && at >= from).length
  }

  /** The last `ms` up to now, by the robot's clock. */
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

/** With a scale, values from `low` to `high` are drawn as heights; without a scale, a value is high or low. */
export interface Scale {
  low: number
  high: number
}

const HEIGHTS = [...'▁▂▃▄▅▆▇█']

/** A cell shows the last level in it; `▒` where the pin changed more than once within the cell. */
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
