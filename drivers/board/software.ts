/** Limits of software PWM: one thread makes the edges of all handles, so their number is bounded (HANDLES 19.3). */

import { BoardError } from '../errors.ts'

export const MOST_SOFTWARE = 8
export const SOFTWARE_MOST_HZ = 200
const WITHOUT_REALTIME_HZ = 100

/** Null when software PWM has this frequency on a board with this "realtime". The hint names a frequency that this board accepts. */
export function tooFast(file: string, place: string, hz: number, realtime: number): BoardError | null {
  const most = realtime > 0 ? SOFTWARE_MOST_HZ : WITHOUT_REALTIME_HZ
  if (hz <= most) return null
  const write = `write "frequencyHz": ${most}`
  if (hz > SOFTWARE_MOST_HZ) {
    const expected = `expected at most ${SOFTWARE_MOST_HZ} Hz with driver software, got ${hz}`
    return new BoardError(file, place, expected, `${write}, or use a PCA9685 on i2c`)
  }
  const expected = `expected at most ${most} Hz with driver software on a board without "realtime", got ${hz}`
  return new BoardError(file, place, expected, `${write}, or "realtime": 50 at the top of the board`)
}
