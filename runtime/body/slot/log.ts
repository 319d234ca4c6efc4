/**
 * Invariant: a slot's log is bounded in lines, line length and rate, whatever a program writes; dropped lines are counted
 * (test/runtime/log.test.ts). The limits, from HANDOVER 9.4: 2,000 lines a slot, the runtime's last 200 among them, 4,096
 * characters a line, 500 lines a second after a burst of 2,000.
 */
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

/** A line with its arrival, which does not depend on the robot's wall clock. */
export interface Arrival {
  readonly line: LogLine
  /** The number of the line among those of all slots. */
  readonly order: number
  /** performance.now() */
  readonly atMs: number
}

export class SlotLog {
  readonly #slot: string
  #arrivals: Arrival[] = []
  /** Lines of the runtime among #arrivals. */
  #own = 0
  #listeners = new Set<(line: LogLine) => void>()
  #tokens = KEEP
  #refilled = performance.now()
  dropped = 0
  /** The slot is gone: no line will be added. */
  isClosed = false

  constructor(slot: string) {
    this.#slot = slot
  }

  /** In order of arrival. */
  get arrivals(): readonly Arrival[] {
    return this.#arrivals
  }

  /** The runtime's own lines are never dropped. */
  add(stream: LogLine['stream'], text: string, fence: number, level?: string): void {
    if (stream !== 'runtime' && !this.#allow()) return
    const line: LogLine = {
      time: new Date().toISOString(),
      slot: this.#slot,
      stream,
      text: text.slice(0, MAX_TEXT),
      fence,
    }
    if (level !== undefined) line.level = level
    this.#arrivals.push({ line, order: ++arrivals, atMs: performance.now() })
    if (stream === 'runtime') this.#own++
    if (this.#arrivals.length > KEEP) this.#forget()
    for (const listener of this.#listeners) listener(line)
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

  /** Reads a pipe to its end, so that a program never blocks on its own output. Drops, unread, what exceeds {@link OUTPUT_ALLOWANCE}. */
  drain(
    pipe: Readable,
    stream: 'stdout' | 'stderr',
    fence: () => number,
    masked: (text: string) => string = (text) => text,
  ): void {
    const budget = new Budget(OUTPUT_ALLOWANCE)
    const splitter = new LineSplitter()
    pipe.on('data', (chunk: Buffer) => {
      if (budget.waitMs > 0) {
        splitter.rest = ''
        return this.drop(1)
      }
      budget.spend(1, chunk.length)
      for (const line of splitter.push(chunk)) if (line !== '') this.add(stream, masked(line), fence())
      if (splitter.rest.length > MAX_TEXT) {
        this.add(stream, masked(splitter.rest), fence())
        splitter.rest = ''
      }
    })
    pipe.on('end', () => splitter.rest !== '' && this.add(stream, masked(splitter.rest), fence()))
    pipe.on('error', () => {})
  }

  /** Removes the oldest line; while the runtime has at most KEEP_OWN lines, the oldest line of the program. */
  #forget(): void {
    const first = this.#own > KEEP_OWN ? 0 : this.#arrivals.findIndex(({ line }) => line.stream !== 'runtime')
    const [gone] = this.#arrivals.splice(first, 1)
    if (gone?.line.stream === 'runtime') this.#own--
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
