import type { LogLine } from '../api.ts'
import type { Term } from './term.ts'

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
  term.line(`${term.paint('dim', time)} ${slot}${term.paint(style, label.padEnd(7))} ${printable(line.text)}`)
}

/** A program's text must not move the cursor or recolour the terminal of whoever reads its log. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, '\u{fffd}')
}
