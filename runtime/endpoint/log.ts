/** The endpoint's log: NDJSON on stderr. Invariant: strangers cannot make it grow faster than {@link MAX_A_SECOND}. */
import { destination, type Logger, pino } from 'pino'

export type { Logger } from 'pino'

/** CHANNEL 5.7 */
const MAX_A_SECOND = 10

export function createLog(): Logger {
  return pino({ name: 'endpoint', base: null, timestamp: () => `,"time":"${new Date().toISOString()}"` }, destination({ fd: 2, sync: true })) // biome-ignore format: one call
}

/** Logs what strangers cause, at a bounded rate; what was left out is counted in the next line. */
export function strangerLog(log: Logger, now: () => number = Date.now): (reason: string, address?: string) => void {
  let second = 0
  let count = 0
  let dropped = 0
  return (reason, address) => {
    const at = Math.floor(now() / 1000)
    if (at !== second) {
      second = at
      count = 0
    }
    if (++count > MAX_A_SECOND) {
      dropped++
      return
    }
    log.warn({ reason, address, ...(dropped > 0 && { dropped }) }, 'stranger refused')
    dropped = 0
  }
}
