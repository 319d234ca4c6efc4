/**
 * Invariant: a sentence of the runtime holds a program's text only in quotation marks, cut, and on one line, so that nobody
 * takes it for the runtime's own words (HANDOVER 3.9; test/e2e/hostiletext.test.ts).
 */
import type { Cause } from './cause.ts'

/** Characters of a program's text in a sentence or a receipt; the slot's log holds more. */
export const MAX_SAID = 300

/** Characters that move a cursor, end a line or reorder text: control, format, line separators. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]+/gu

/** The text on one line and cut, for a field of a receipt. */
export function oneLine(text: string, most = MAX_SAID): string {
  // Cut before the search, which is slow: 4,096 characters may come with every heartbeat.
  const clean = text
    .slice(0, 2 * most)
    .replace(UNPRINTABLE, ' ')
    .trim()
  return clean.length <= most ? clean : `${clean.slice(0, most - 1)}…`
}

/** The text in quotation marks, for a sentence: `"the arm is stuck"`. */
export const quoted = (text: string): string => JSON.stringify(oneLine(text))

/** The cause as one sentence, the program's own words last. */
export function causeText({ message, said }: Pick<Cause, 'message' | 'said'>): string {
  return said === undefined ? message : `${message}; the program said: ${quoted(said)}`
}

/** A length of time for a sentence: `0.4 s`, `9 s`, `3 h 5 min`. */
export function durationText(ms: number): string {
  const seconds = Math.round(ms / 1000)
  if (seconds < 10) return `${Number((ms / 1000).toFixed(1))} s`
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min`
  const hours = Math.floor(minutes / 60)
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`
}
