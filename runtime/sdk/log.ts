/** Turns the arguments of `log`, which takes what console.log takes, into one text and a level (HANDOVER 3.5). */
import { formatWithOptions } from 'node:util'
import { LOG_LEVELS, type LogLevel, MAX_LOG_TEXT } from './wire.ts'

const isLevel = (value: unknown): value is LogLevel => LOG_LEVELS.some((level) => level === value)

/** With exactly two values the second is the level, if it is the name of a level. All other values are text. */
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
