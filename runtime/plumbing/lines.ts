/**
 * Reads lines from a peer. Invariant: a line is never buffered beyond the limit, and a flood of lines delays other work for at
 * most {@link SLICE_MS} at a time (HANDOVER 8.7; test/runtime/plumbing/budget.test.ts).
 */
import type { Readable } from 'node:stream'
import { LineSplitter } from '../../deploy/shared/linesplitter.ts'
import type { Budget } from './budget.ts'

/** The lines of one peer are handled for this long, in ms; then the event loop has a turn. */
const SLICE_MS = 2

export interface LineReader {
  /** Delivers the lines that were read already, for a peer that has ended. */
  deliver(): void
  /** What was read and not delivered yet, for whoever reads the peer next. */
  unread(): string
}

/**
 * Calls `onLine` for each complete line of UTF-8. After `onTooLong`, which is called at most once, no line is delivered. A peer
 * that has used up its budget is not read until there is some again, and is cut off when the budget is flooded. `before` comes
 * before what is read: the `unread` of an earlier reader.
 */
export function readLines(
  from: Readable,
  max: number,
  onLine: (line: string) => void,
  onTooLong: (why: 'an endless line' | 'a flood') => void,
  budget: Budget | null = null,
  before = '',
): LineReader {
  const splitter = new LineSplitter()
  let dead = false
  let lines: string[] = []
  let next = 0
  let resting = false

  /** False when lines are left. */
  const deliver = (sliceMs: number): boolean => {
    const end = performance.now() + sliceMs
    while (next < lines.length) {
      const line = lines[next++] as string
      budget?.spend(1, line.length)
      if (line.length > max) dead = true
      else onLine(line)
      if (dead) return cutOff()
      if (performance.now() >= end) break
    }
    if (next < lines.length) return false
    lines = []
    next = 0
    return true
  }
  const cutOff = (why: 'an endless line' | 'a flood' = 'an endless line'): boolean => {
    lines = []
    next = 0
    splitter.rest = ''
    onTooLong(why)
    return true
  }
  const go = (): void => {
    resting = false
    const done = deliver(SLICE_MS)
    const waitMs = dead ? 0 : (budget?.waitMs ?? 0)
    if (!dead && budget?.isFlooded === true) {
      dead = true
      return void cutOff('a flood')
    }
    if (done && waitMs === 0) return void from.resume()
    from.pause()
    resting = true
    if (waitMs > 0) setTimeout(go, waitMs)
    else setImmediate(go)
  }

  from.setEncoding('utf8')
  const take = (text: string): void => {
    if (dead) return
    const whole = splitter.push(text)
    lines = lines.length === 0 ? whole : [...lines.slice(next), ...whole]
    next = 0
    if (splitter.rest.length > max && lines.length === 0) {
      dead = true
      return void cutOff()
    }
    if (!resting) go()
  }
  from.on('data', take)
  from.on('error', () => {})
  if (before !== '') setImmediate(take, before)
  return {
    deliver: () => void deliver(Number.POSITIVE_INFINITY),
    unread: () => [...lines.slice(next).map((line) => `${line}\n`), splitter.rest].join(''),
  }
}
