/**
 * Replaces config values by their names in what a program says, before the text is in a log, a status or a receipt
 * (HANDOVER 15.5): a library may put a password into the message of an error. Only the value exactly as it was set is
 * found; a program can print an encoded value.
 */
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
    .filter(([part]) => part.length >= LEAST)
    // The longest first: a value may be the beginning of another one.
    .sort(([a], [b]) => b.length - a.length)
  if (found.length === 0) return null
  return (text) => {
    const masked = found.reduce((rest, [part, name]) => rest.replaceAll(part, `[${name}]`), text)
    return text.length < MAX_LOG_TEXT ? masked : maskCutEnd(masked, found)
  }
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
