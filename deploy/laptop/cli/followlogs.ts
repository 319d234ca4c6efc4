/** Follows a robot's log over a {@link Link}, which says that the robot does not answer, and finds it at a new address. */
import type { LogLine } from '../../shared/api.ts'
import type { LogOptions } from '../client.ts'
import { followLog } from '../following.ts'
import type { Link } from './link.ts'

/** Yields lines until `signal` is aborted. Waits for a robot that no longer answers; otherwise throws as RobotClient.logs. */
export function followLogs(
  link: Link,
  slot: string | null,
  first: LogOptions,
  signal: AbortSignal,
): AsyncGenerator<LogLine, void> {
  return followLog(
    (which) => link.client.logs(slot, which),
    first,
    (reason) => link.back(reason, signal),
    signal,
  )
}
