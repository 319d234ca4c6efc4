/**
 * Replaces config values by their names in what a program says, before the text is in a log, a status or a receipt
 * (HANDOVER 15.5): a library may put a password into the message of an error. A value is found as it was set, as JSON and
 * console.log print it in an object, and percent-encoded as in a URL; a program can print it in other encodings.
 */
import { inspect } from 'node:util'
import { type FromProgram, MAX_LOG_TEXT } from '../../sdk/wire.ts'

export type Mask = (text: string) => string

/** Characters. Shorter values occur in many texts by chance: `1`, `true`, `main`. */
const LEAST = 8
/** Fields of messages that hold text of the author's code. */
const TEXTS = ['text', 'message', 'stack', 'reason', 'note'] as const

/** Null when no value is long enough to be masked. */
export function maskOf(values: Readonly<Record<string, string>>): Mask | null {
  const found = Object.entries(values)
    // Each line of the value, too: a log splits text into lines.
    .flatMap(([name, value]) => [value, ...value.split(/\r?\n/)].map((part): [string, string] => [part.trim(), name]))
    .flatMap(([part, name]) => forms(part).map((form): [string, string] => [form, name]))
    .filter(([part]) => part.length >= LEAST)
    // The longest first: a value may be the beginning of another one.
    .sort(([a], [b]) => b.length - a.length)
  if (found.length === 0) return null
  return (text) => {
    const masked = found.reduce((rest, [part, name]) => rest.replaceAll(part, `[${name}]`), text)
    return text.length < MAX_LOG_TEXT ? masked : maskCutEnd(masked, found)
  }
}

function forms(value: string): string[] {
  // Through a buffer, because a lone surrogate has no percent-encoding.
  const percent = encodeURIComponent(Buffer.from(value).toString())
  return [...new Set([value, JSON.stringify(value).slice(1, -1), inspect(value).slice(1, -1), percent])]
}

/** A text of full length was cut, perhaps in the middle of a value: replaces the beginning of a value at its end. */
function maskCutEnd(text: string, found: readonly (readonly [string, string])[]): string {
  let longest = ['', ''] as readonly [string, string]
  for (const [part, name] of found) {
    let length = Math.min(part.length - 1, text.length)
    while (length > longest[0].length && !text.endsWith(part.slice(0, length))) length--
    if (length > longest[0].length) longest = [part.slice(0, length), name]
  }
  const [cut, name] = longest
  return cut === '' ? text : `${text.slice(0, -cut.length)}[${name}]`
}

export function maskMessage(message: FromProgram, mask: Mask): FromProgram {
  const masked: Record<string, unknown> = { ...message }
  for (const field of TEXTS) {
    const text = masked[field]
    if (typeof text === 'string') masked[field] = mask(text)
  }
  return masked as unknown as FromProgram
}
