/**
 * Follows a robot's log over lost sessions. Invariant: from the first mark on, a line that the robot keeps is yielded once
 * (CHANNEL 10.5; test/e2e/followers.test.ts).
 */
import type { LogLevel, LogLine } from '../shared/api.ts'
import { Refusal } from '../shared/errors.ts'

export interface LogOptions {
  lines?: number
  /** ISO time by the robot's clock */
  since?: string
  /** instead of `since`: ms before the robot's present time */
  ago?: number
  /** this level and worse */
  level?: LogLevel
  /** only lines after the one with this cursor, and all of them: `lines` does not count */
  after?: string
  follow?: boolean
  /** called once when the stored lines of a followed log have come, with the cursor up to which they go */
  onMark?: (cursor: string) => void
  signal?: AbortSignal
}

/** Pauses before further attempts to reach a robot: a robot that is back is noticed within 1 s (CHANNEL 10.6). */
const PAUSE_MS = { first: 100, later: 500 }
/** So many attempts come quickly. An endpoint that is replaced is away for less. */
const QUICK = 30

/** `attempt` counts from 0, the first one after the loss. */
export const pauseBefore = (attempt: number): number => (attempt < QUICK ? PAUSE_MS.first : PAUSE_MS.later)

/** Whether the error means that the robot does not answer, rather than that it refused. */
export const isLost = (error: unknown): error is Refusal => error instanceof Refusal && error.code === 'unreachable'

/** Yields lines until `signal` is aborted. `back` is awaited after a loss, and may throw to give up. */
export async function* followLog(
  open: (which: LogOptions) => AsyncIterable<LogLine>,
  first: LogOptions,
  back: (reason: Refusal) => Promise<void>,
  signal: AbortSignal,
): AsyncGenerator<LogLine, void> {
  const { level } = first
  let cursor = first.after
  let wasLost = false
  const onMark = (mark: string): void => {
    cursor = mark
  }
  while (!signal.aborted) {
    const after = cursor === undefined ? first : { after: cursor, ...(level === undefined ? {} : { level }) }
    try {
      for await (const line of open({ ...after, follow: true, onMark, signal })) {
        cursor = line.cursor
        yield line
      }
      if (signal.aborted) return
      throw new Refusal('unreachable', 'the robot ended the log')
    } catch (error) {
      if (signal.aborted) return
      // a robot that was just restarted may not have the slot yet
      const isEarly = wasLost && error instanceof Refusal && error.code === 'not-found'
      if (!isLost(error) && !isEarly) throw error
      await back(error as Refusal)
      wasLost = true
    }
  }
}
