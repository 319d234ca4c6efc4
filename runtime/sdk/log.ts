/** What `log` was called with, as one text and a level: it takes what console.log takes (HANDOVER 3.5). */
import { formatWithOptions } from 'node:util'
import { LOG_LEVELS, type LogLevel, MAX_LOG_TEXT } from './wire.ts'

const isLevel = (value: unknown): value is LogLevel => LOG_LEVELS.some((level) => level === value)

/** Of exactly two values the second is the level, where it is the name of one; whatever else is given is text. */
export function logged(values: readonly unknown[]): { text: string; level: LogLevel } {
  const [first, level] = values
  if (values.length === 2 && isLevel(level)) return { text: textOf([first]), level }
  return { text: textOf(values), level: 'info' }
}

function textOf(values: readonly unknown[]): string {
  const [only] = values
  if (values.length === 1 && typeof only === 'string') return only
  return formatWithOptions({ maxStringLength: MAX_LOG_TEXT, breakLength: 120 }, ...values)
}
