/**
 * What a program says with one of its config values in it, as a library does in the message of an error, gets the name in
 * the place of the value, before it is in a log, a status or a receipt (HANDOVER 15.5). It finds the value as it was set:
 * a program that writes it in another way is not kept from it.
 */
import type { FromProgram } from '../../sdk/wire.ts'

export type Mask = (text: string) => string

/** Shorter ones stand in many texts by chance: `1`, `true`, `main`. */
const LEAST = 8
/** Fields of messages that hold text of the author's code. */
const TEXTS = ['text', 'message', 'stack', 'reason', 'note'] as const

/** Null when there is nothing to look for. */
export function maskOf(values: Readonly<Record<string, string>>): Mask | null {
  const found = Object.entries(values)
    // a log has lines
    .flatMap(([name, value]) => [value, ...value.split(/\r?\n/)].map((part): [string, string] => [part.trim(), name]))
    .filter(([part]) => part.length >= LEAST)
    // of two that begin alike the longer one first
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
