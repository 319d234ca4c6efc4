/** Invariant: strangers cannot make the endpoint's log grow faster than {@link MAX_A_SECOND}. */
import type { Logger } from '../log.ts'

/** CHANNEL 5.7 */
const MAX_A_SECOND = 10

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
