/** Prints log lines, digests and the reasons of receipts, with control characters of programs made harmless. */
import type { LogLine, Receipt } from '../../shared/api.ts'
import { formatMs, type Term } from './term.ts'

/** `12:34:56.789 log   text`, with the slot where several are shown; times are the robot's, in the laptop's zone. */
export function logLine(term: Term, line: LogLine, slots = false): void {
  term.event({ event: 'log', ...line })
  const date = new Date(line.time)
  const two = (value: number): string => String(value).padStart(2, '0')
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
  const time = Number.isNaN(date.getTime()) ? line.time : `${clock}.${String(date.getMilliseconds()).padStart(3, '0')}`
  const label = line.stream === 'log' ? (line.level ?? 'log') : line.stream
  const style = line.stream === 'stderr' || line.level === 'error' ? 'red' : line.stream === 'runtime' ? 'cyan' : 'dim'
  const slot = slots ? `${line.slot.padEnd(7)} ` : ''
  const head = `${term.paint('dim', time)} ${slot}${term.paint(style, label.padEnd(7))}`
  // The head is repeated on each line of the text: a program could print what looks like a line of the runtime (HANDOVER 3.9).
  for (const text of line.text.split(/\r?\n/)) term.line(`${head} ${printable(text)}`)
}

/**
 * Replaces control characters: a program's text must not move the cursor, begin a line, reorder or recolour text in the
 * terminal.
 */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: this replaces control characters
  return text.replace(/[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, '\u{fffd}')
}

/** Hex digits shown of a digest: short to type, and enough to tell eight releases apart. */
const DIGEST_DIGITS = 8

export const shortDigest = (digest: string): string => digest.replace('sha256:', '').slice(0, DIGEST_DIGITS)

/** The reason of a receipt's outcome, with the program's own words. */
export function reasonOf({ code, reason, said, failures = 0, checkMs }: Partial<Receipt>): string {
  if (code === undefined && reason === undefined && checkMs !== undefined)
    return `files checked in ${formatMs(checkMs)}`
  const parts = reason?.startsWith(code ?? ' ') ? [reason] : [code, reason]
  const why = `${parts.filter((part) => part !== undefined).join(': ')}${failures > 1 ? `, ${failures} times in a row` : ''}`
  return printable(said === undefined ? why : `${why}; the program said: ${JSON.stringify(said)}`)
}
