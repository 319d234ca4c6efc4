/** Strict JSON. Invariant: every other parser reads an accepted text in the same way (test/deploy/shared/bundle/formats.test.ts). */
import { Refusal, type RefusalCode } from '../errors.ts'
import { LIMITS } from './limits.ts'

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json }
export type JsonObject = { [key: string]: Json }

/** The canonical text of a value: no duplicate keys, no white space, one final newline. */
export function encodeJson(value: object): Uint8Array {
  return Buffer.from(`${JSON.stringify(value)}\n`)
}

/** Reads the fields of one object. Every refusal names the document and the field. */
export class Fields {
  readonly #values: JsonObject
  readonly #what: string
  readonly #code: RefusalCode
  constructor(values: JsonObject, what: string, code: RefusalCode = 'bad-bundle') {
    this.#values = values
    this.#what = what
    this.#code = code
  }

  fail(message: string): never {
    throw new Refusal(this.#code, `${this.#what}: ${message}`)
  }

  /** Requires exactly these keys; `optional` ones may be absent (BUNDLE 1.2). */
  keys(required: readonly string[], optional: readonly string[] = []): void {
    for (const key of Object.keys(this.#values)) {
      if (!required.includes(key) && !optional.includes(key)) this.fail(`unknown key ${quote(key)}`)
    }
    for (const key of required) if (!this.has(key)) this.fail(`missing key '${key}'`)
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#values, key)
  }

  get(key: string): Json | undefined {
    return this.has(key) ? this.#values[key] : undefined
  }

  text(key: string, pattern: RegExp, max: number): string {
    const value = this.get(key)
    if (typeof value !== 'string') return this.fail(`'${key}' must be a string`)
    if (value.length > max) return this.fail(`'${key}' has ${value.length} characters, at most ${max}`)
    if (!pattern.test(value)) return this.fail(`'${key}' is malformed: ${quote(value)}`)
    return value
  }

  oneOf<T extends string>(key: string, known: readonly T[]): T {
    const value = this.get(key)
    const found = known.find((each) => each === value)
    if (found === undefined) return this.fail(`'${key}' must be one of ${known.join(', ')}, got ${quote(value)}`)
    return found
  }

  /** A safe integer between `min` and `max`. */
  integer(key: string, min: number, max: number): number {
    const value = this.get(key)
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
      return this.fail(`'${key}' must be a whole number from ${min} to ${max}, got ${quote(value)}`)
    }
    return value
  }

  list(key: string, max: number): Json[] {
    const value = this.get(key)
    if (!Array.isArray(value)) return this.fail(`'${key}' must be a list`)
    if (value.length > max) return this.fail(`'${key}' has ${value.length} entries, at most ${max}`)
    return value
  }

  /** A sorted list of unique strings that match `pattern`. */
  names(key: string, pattern: RegExp, max: number): string[] {
    const list = this.list(key, max)
    const names: string[] = []
    for (const entry of list) {
      if (typeof entry !== 'string' || !pattern.test(entry)) return this.fail(`'${key}' holds ${quote(entry)}`)
      const last = names.at(-1)
      if (last !== undefined && !(last < entry)) return this.fail(`'${key}' must be sorted, without doubles`)
      names.push(entry)
    }
    return names
  }

  object(key: string): JsonObject {
    const value = this.get(key)
    if (!isObject(value)) return this.fail(`'${key}' must be an object`)
    return value
  }
}

/** Checks size, encoding, canonical form and format of a document (BUNDLE 1.1 to 1.4). The caller checks the keys. */
export function readJson(
  bytes: Uint8Array,
  what: string,
  format: string,
  max: number,
  code: RefusalCode = 'bad-bundle',
): Fields {
  if (bytes.length > max) throw new Refusal('too-large', `${what}: ${bytes.length} bytes, at most ${max}`)
  let text: string
  let value: unknown
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    value = JSON.parse(text)
  } catch {
    throw new Refusal(code, `${what}: not a JSON text in UTF-8`)
  }
  // deep nesting would exhaust the stack of code that walks the value (BUNDLE 1.4)
  if (nesting(text) > LIMITS.depth) throw new Refusal(code, `${what}: nested deeper than ${LIMITS.depth}`)
  if (!isObject(value)) throw new Refusal(code, `${what}: expected a JSON object`)
  const got = Object.hasOwn(value, 'format') ? value.format : undefined
  // an unknown format is refused by name, before its other fields are read (BUNDLE 1.3)
  if (got !== format) throw new Refusal('unknown-format', `${what}: unknown format ${quote(got)}, known: ${format}`)
  // this also refuses duplicate keys, which parsers read differently (BUNDLE 1.2)
  if (`${JSON.stringify(value)}\n` !== text) throw new Refusal(code, `${what}: not in canonical form`)
  return new Fields(value, what, code)
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A value for a message: short, and printable even if a stranger wrote it. */
export function quote(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value)
  const ascii = text.replace(/[^\x20-\x7e]/g, '?')
  return ascii.length > 80 ? `${ascii.slice(0, 77)}...` : ascii
}

/** Depth of nesting in a text that is known to be JSON. */
function nesting(text: string): number {
  let [depth, deepest] = [0, 0]
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/g)) {
    if (token === '[' || token === '{') deepest = Math.max(deepest, ++depth)
    else if (token === ']' || token === '}') depth--
  }
  return deepest
}
