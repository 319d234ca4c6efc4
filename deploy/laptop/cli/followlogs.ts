/** Follows a robot's log across restarts of the robot and lost connections. Invariant: no line is yielded twice (test/cli/waiting.test.ts). */
import type { LogLine } from '../../shared/api.ts'
import { Refusal } from '../../shared/errors.ts'
import type { LogOptions } from '../client.ts'
import { isLost, type Link } from './link.ts'

/** More lines than the robot keeps of a slot, so that none is left out after a reconnection. */
const KEPT = 10_000

/** Yields lines until `signal` is aborted. Waits for a robot that no longer answers; otherwise throws as RobotClient.logs. */
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
      // a robot that was just restarted may not have the slot yet
      const early = again && error instanceof Refusal && error.code === 'not-found'
      if (!isLost(error) && !early) throw error
      await link.back(error, signal)
      again = true
      const { level } = first
      which = { lines: KEPT, since: last || began, ...(level === undefined ? {} : { level }) }
    }
  }
}
