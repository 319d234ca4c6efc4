/**
 * Replaces config values by their names in what a program says, before the text is in a log, a status or a receipt
 * (HANDOVER 15.5): a library may put a password into the message of an error. Only the value exactly as it was set is
 * found; a program can print an encoded value.
 */
import type { FromProgram } from '../../sdk/wire.ts'

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
  return (text) => found.reduce((masked, [part, name]) => masked.replaceAll(part, `[${name}]`), text)
}

export function maskMessage(message: FromProgram, mask: Mask): FromProgram {
  const masked: Record<string, unknown> = { ...message }
  for (const field of TEXTS) {
    const text = masked[field]
    if (typeof text === 'string') masked[field] = mask(text)
  }
  return masked as unknown as FromProgram
}
