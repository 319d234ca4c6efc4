/** Invariant: strangers cause at most {@link MAX_A_SECOND} log lines a second (test/runtime/endpoint/app.test.ts). */
import type { Logger } from '../log.ts'

/** Log lines a second (CHANNEL 5.7). */
const MAX_A_SECOND = 10

/** Logs refused strangers at a bounded rate; the next line has the number of those that were left out. */
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
