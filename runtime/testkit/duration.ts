/** A number of ms, or a text with a unit, like `500ms` or `2s`. */
export type Duration = number | string

const UNITS: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1000, m: 60_000, h: 3_600_000 }
/** A simulated day. */
const MOST_MS = 86_400_000

/** The duration in ms, from 0 to one day. Throws RangeError for anything else. */
export function durationMs(duration: Duration): number {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?) ?(us|ms|s|m|h)$/.exec(String(duration)) ?? []
  const ms = typeof duration === 'number' ? duration : Number(number) * (UNITS[unit] ?? Number.NaN)
  if (ms >= 0 && ms <= MOST_MS) return ms
  throw new RangeError(
    `expected ms, or a time like "500ms", "2s" or "1h", of at most a day, got ${JSON.stringify(duration)}`,
  )
}
