/**
 * Selects log lines by slot, time and level, on the robot (HANDOVER 9.6). Invariant: they are in order of arrival, even when the
 * robot's clock was set back (test/runtime/body/slot/log.test.ts).
 */
import { LOG_LEVELS, type LogLevel, type LogLine } from '../../../deploy/shared/api.ts'
import { orderAt, type SlotLog } from '../slot/log.ts'
import type { Slot } from '../slot/slot.ts'

export interface LogQuery {
  /** The last so many of the lines that match. */
  lines: number
  /** Not before this time of the robot's clock, in ms since 1970; null: no limit. */
  since: number | null
  /** Not longer ago than this, in ms by CLOCK_MONOTONIC; null: no limit. */
  ago: number | null
  level: LogLevel
  /** Only newer lines than the one at this cursor, and all of them; null: no limit. */
  after: string | null
}

/** Oldest first. */
export function selectLines(slots: Iterable<Pick<Slot, 'log'>>, query: LogQuery): LogLine[] {
  const fromMs = query.ago === null ? Number.NEGATIVE_INFINITY : performance.now() - query.ago
  const from = (query.after === null ? null : orderAt(query.after)) ?? 0
  const found = [...slots].flatMap(({ log }) => {
    const lines = log.arrivals.filter(({ line, order, atMs }) => order > from && atMs >= fromMs && matches(line, query))
    const gap = query.after === null ? null : log.gapAfter(from)
    return gap === null ? lines : [gap, ...lines]
  })
  const sorted = found.sort((a, b) => a.order - b.order)
  const count = query.after === null ? query.lines : sorted.length
  return sorted.slice(Math.max(0, sorted.length - count)).map(({ line }) => line)
}

/** Follows new lines, also of slots that `onSlot` reports later. The returned function ends it. */
export function followLines(
  slots: Iterable<Slot>,
  onSlot: (listener: (slot: Slot) => void) => () => void,
  query: LogQuery,
  item: (line: LogLine) => void,
): () => void {
  const ends = new Map<SlotLog, () => void>()
  const follow = ({ log }: Slot): void => {
    for (const known of ends.keys()) if (known.isClosed) ends.delete(known)
    ends.set(
      log,
      log.follow((line) => matches(line, query) && item(line)),
    )
  }
  for (const slot of slots) follow(slot)
  const noMore = onSlot(follow)
  return () => {
    noMore()
    for (const end of ends.values()) end()
  }
}

function matches(line: LogLine, { since, level }: LogQuery): boolean {
  const enough = level === 'debug' || LOG_LEVELS.indexOf(levelOf(line)) >= LOG_LEVELS.indexOf(level)
  return enough && (since === null || Date.parse(line.time) >= since)
}

function levelOf({ stream, level }: LogLine): LogLevel {
  return LOG_LEVELS.find((known) => known === level) ?? (stream === 'stderr' ? 'warn' : 'info')
}
