/**
 * Invariant: a slot's log is bounded in lines, line length and rate, whatever a program writes; dropped lines are counted
 * (test/runtime/body/slot/log.test.ts). The limits, from HANDOVER 9.4: 2,000 lines a slot, the runtime's last 200 among them, 4,096
 * characters a line, 500 lines a second after a burst of 2,000.
 */
import { randomBytes } from 'node:crypto'
import type { Readable } from 'node:stream'
import type { LogLine } from '../../../deploy/shared/api.ts'
import { LineSplitter } from '../../../deploy/shared/linesplitter.ts'
import { Budget, OUTPUT_ALLOWANCE } from '../../plumbing/budget.ts'

const KEEP = 2000
/** The runtime's lines that a program cannot push out. */
const KEEP_OWN = 200
const MAX_TEXT = 4096
const PER_SECOND = 500

/** Counts the lines of all slots: the wall clock may be set back, and CLOCK_MONOTONIC may give two lines the same time. */
let arrivals = 0
/** Names the log of all slots, which ends with the body; a runtime that replaces another one goes on with its log. */
let logName = randomBytes(6).toString('hex')
const GONE = `lines before this one are gone: the robot keeps the last ${KEEP} lines of a slot`

const cursorOf = (order: number): string => `${logName}-${order}`

/** The place after the newest line of all slots. */
export const newestCursor = (): string => cursorOf(arrivals)

/** The number of the line at this cursor. Null for a cursor of another log: every line here is newer (CHANNEL 10.2). */
export function orderAt(cursor: string): number | null {
  const [name, order] = cursor.split('-')
  return name === logName ? Number(order) : null
}

/** A line with its arrival, which does not depend on the robot's wall clock. */
export interface LoggedLine {
  readonly line: LogLine
  /** The number of the line among those of all slots. */
  readonly order: number
  /** performance.now() */
  readonly atMs: number
}

export interface SavedLog {
  readonly dropped: number
  readonly forgotten: number
  /** {@link newestCursor} of all slots. */
  readonly newest: string
  readonly lines: readonly { readonly line: LogLine; readonly ageMs: number }[]
}

export class SlotLog {
  readonly #slot: string
  #arrivals: LoggedLine[] = []
  /** Lines of the runtime among #arrivals. */
  #own = 0
  #listeners = new Set<(line: LogLine) => void>()
  #tokens = KEEP
  #refilled = performance.now()
  /** The highest number of a line that is no longer kept; 0: all are kept. */
  #forgotten = 0
  dropped = 0
  /** The slot is gone: no line will be added. */
  isClosed = false

  constructor(slot: string) {
    this.#slot = slot
  }

  /** In order of arrival. */
  get arrivals(): readonly LoggedLine[] {
    return this.#arrivals
  }

  /** The runtime's own lines are never dropped. */
  add(stream: LogLine['stream'], text: string, fence: number, level?: string): void {
    if (stream !== 'runtime' && !this.#allow()) return
    const line = this.#line(++arrivals, stream, text.slice(0, MAX_TEXT), fence, level)
    this.#arrivals.push({ line, order: arrivals, atMs: performance.now() })
    if (stream === 'runtime') this.#own++
    if (this.#arrivals.length > KEEP) this.#forget()
    for (const listener of this.#listeners) listener(line)
  }

  /** Stands for lines after the line `order` that are no longer kept; null: all of them are kept (CHANNEL 10.4). */
  gapAfter(order: number): LoggedLine | null {
    if (this.#forgotten <= order) return null
    const fence = this.#arrivals[0]?.line.fence ?? 0
    const line = this.#line(this.#forgotten, 'runtime', GONE, fence, 'warn')
    return { line, order: this.#forgotten, atMs: performance.now() }
  }

  /** For the next runtime, which goes on with this log. */
  save(): SavedLog {
    const now = performance.now()
    const { dropped } = this
    return {
      dropped,
      forgotten: this.#forgotten,
      newest: newestCursor(),
      lines: this.#arrivals.map(({ line, atMs }) => ({ line, ageMs: now - atMs })),
    }
  }

  /** Lines keep their cursors, so that whoever follows them gets each line once (CHANNEL 10.2). */
  restore({ dropped, forgotten, newest, lines }: SavedLog): void {
    const now = performance.now()
    this.dropped = dropped
    this.#forgotten = forgotten
    const [name = logName, order] = newest.split('-')
    logName = name
    arrivals = Math.max(arrivals, Number(order))
    this.#arrivals = lines.map(({ line, ageMs }) => ({ line, order: orderAt(line.cursor) ?? 0, atMs: now - ageMs }))
    this.#own = lines.filter(({ line }) => line.stream === 'runtime').length
  }

  follow(listener: (line: LogLine) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  close(): void {
    this.isClosed = true
    this.#listeners.clear()
  }

  /** Counts lines that the SDK or `drain` dropped. */
  drop(lines: number): void {
    this.dropped += lines
  }

  /**
   * Reads a pipe to its end, so that a program never blocks on its own output. Drops, unread, what exceeds
   * {@link OUTPUT_ALLOWANCE}. `before` is the beginning of its first line; the returned function gives that of the next one.
   * A line for which `takes` returns true is not logged.
   */
  drain(
    pipe: Readable,
    stream: 'stdout' | 'stderr',
    fence: () => number,
    masked: (text: string) => string = (text) => text,
    before = '',
    takes: (line: string) => boolean = () => false,
  ): () => string {
    const budget = new Budget(OUTPUT_ALLOWANCE)
    const splitter = new LineSplitter()
    splitter.rest = before
    pipe.on('data', (chunk: Buffer) => {
      if (budget.waitMs > 0) {
        splitter.rest = ''
        return this.drop(1)
      }
      budget.spend(1, chunk.length)
      for (const line of splitter.push(chunk)) if (!takes(line) && line !== '') this.add(stream, masked(line), fence())
      if (splitter.rest.length > MAX_TEXT) {
        this.add(stream, masked(splitter.rest), fence())
        splitter.rest = ''
      }
    })
    pipe.on('end', () => splitter.rest !== '' && this.add(stream, masked(splitter.rest), fence()))
    pipe.on('error', () => {})
    return () => splitter.rest
  }

  /** Removes the oldest line; while the runtime has at most KEEP_OWN lines, the oldest line of the program. */
  #forget(): void {
    const first = this.#own > KEEP_OWN ? 0 : this.#arrivals.findIndex(({ line }) => line.stream !== 'runtime')
    const [gone] = this.#arrivals.splice(first, 1)
    if (gone === undefined) return
    if (gone.line.stream === 'runtime') this.#own--
    this.#forgotten = Math.max(this.#forgotten, gone.order)
  }

  #line(order: number, stream: LogLine['stream'], text: string, fence: number, level?: string): LogLine {
    const line: LogLine = {
      cursor: cursorOf(order),
      time: new Date().toISOString(),
      slot: this.#slot,
      stream,
      text,
      fence,
    }
    if (level !== undefined) line.level = level
    return line
  }

  #allow(): boolean {
    const now = performance.now()
    this.#tokens = Math.min(KEEP, this.#tokens + ((now - this.#refilled) / 1000) * PER_SECOND)
    this.#refilled = now
    if (this.#tokens < 1) {
      this.dropped++
      return false
    }
    this.#tokens--
    return true
  }
}
