/** Invariant: the log of a robot goes on after the robot, or the connection, was away; no line is given twice. */
import type { LogLine } from '../../shared/api.ts'
import { Refusal } from '../../shared/errors.ts'
import type { LogOptions } from '../client.ts'
import { isLost, type Link } from './link.ts'

/** All that a slot keeps. */
const KEPT = 10_000

/** Until `signal`. Throws as RobotClient.logs, but for a robot that does not answer any more: that one is waited for. */
export async function* followLogs(
  link: Link,
  slot: string | null,
  first: LogOptions,
  signal: AbortSignal,
): AsyncGenerator<LogLine, void> {
  let which: LogOptions = first
  let last = ''
  let again = false
  const began = new Date().toISOString()
  while (!signal.aborted) {
    const given = last
    try {
      for await (const line of link.client.logs(slot, { ...which, follow: true, signal })) {
        if (line.time <= given) continue
        last = line.time
        yield line
      }
      if (signal.aborted) return
      throw new Refusal('unreachable', 'the robot ended the log')
    } catch (error) {
      if (signal.aborted) return
      // a robot that has just been started may have no such slot yet
      const early = again && error instanceof Refusal && error.code === 'not-found'
      if (!isLost(error) && !early) throw error
      await link.back(error, signal)
      again = true
      const { level } = first
      which = { lines: KEPT, since: last || began, ...(level === undefined ? {} : { level }) }
    }
  }
}
