/**
 * Invariant: reads exactly the JSON of RFC 8259, and says where and what when it is not that.
 *
 * Hand-written because the board file is edited by hand: JSON.parse gives no position for many mistakes, and lets the
 * second of two equal names win in silence.
 */

const MAX_DEPTH = 32

export class JsonError extends Error {
  readonly line: number
  readonly column: number
  /** What to write instead. */
  readonly fix: string
  constructor(text: string, at: number, message: string, fix: string) {
    super(message)
    const before = text.slice(0, at).split('\n')
    this.line = before.length
    this.column = (before.at(-1) ?? '').length + 1
    this.fix = fix
  }
}

const LITERALS: [string, unknown][] = [
  ['true', true],
  ['false', false],
  ['null', null],
]
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
// biome-ignore lint/suspicious/noControlCharactersInRegex: RFC 8259 section 7 forbids them in strings
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y

export function parseJson(text: string): unknown {
  return new Parser(text.startsWith('\ufeff') ? text.slice(1) : text).parse()
}

class Parser {
  readonly #text: string
  #at = 0
  #depth = 0

  constructor(text: string) {
    this.#text = text
  }

  parse(): unknown {
    const value = this.#value()
    this.#space()
    if (this.#at < this.#text.length) throw this.#unexpected('the end', 'remove what follows the last brace')
    return value
  }

  #space(): void {
    while (' \t\n\r'.includes(this.#text[this.#at] ?? 'x')) this.#at++
  }

  #value(): unknown {
    this.#space()
    const char = this.#text[this.#at]
    if (char === '{' || char === '[') {
      if (++this.#depth > MAX_DEPTH) throw this.#unexpected(`at most ${MAX_DEPTH} levels`, 'nest less deeply')
      const value = char === '{' ? this.#object() : this.#array()
      this.#depth--
      return value
    }
    if (char === '"') return this.#string('a string')
    const number = this.#match(NUMBER)
    if (number !== null) return Number(number)
    for (const [word, value] of LITERALS) {
      if (!this.#text.startsWith(word, this.#at)) continue
      this.#at += word.length
      return value
    }
    if (char === '}' || char === ']') throw this.#unexpected('a value', 'remove the comma before it')
    throw this.#unexpected('a value', char === "'" ? 'write double quotes' : 'write text in double quotes')
  }

  #object(): Record<string, unknown> {
    const result: Record<string, unknown> = Object.create(null)
    this.#at++
    this.#space()
    if (this.#text[this.#at] === '}') return this.#end(result)
    for (;;) {
      this.#space()
      const start = this.#at
      const key = this.#string('a name in double quotes')
      if (key in result) {
        throw new JsonError(
          this.#text,
          start,
          `"${key}" stands here for the second time`,
          'rename or remove one of them',
        )
      }
      this.#space()
      if (this.#text[this.#at] !== ':') throw this.#unexpected('":"', `write a colon after "${key}"`)
      this.#at++
      result[key] = this.#value()
      this.#space()
      if (this.#text[this.#at] === '}') return this.#end(result)
      this.#comma('}')
    }
  }

  #array(): unknown[] {
    const result: unknown[] = []
    this.#at++
    this.#space()
    if (this.#text[this.#at] === ']') return this.#end(result)
    for (;;) {
      result.push(this.#value())
      this.#space()
      if (this.#text[this.#at] === ']') return this.#end(result)
      this.#comma(']')
    }
  }

  #end<T>(result: T): T {
    this.#at++
    return result
  }

  #comma(closer: string): void {
    if (this.#text[this.#at] !== ',') throw this.#unexpected(`"," or "${closer}"`, 'add a comma before it')
    this.#at++
  }

  #string(expected: string): string {
    const found = this.#match(STRING)
    if (found !== null) return JSON.parse(found) as string
    const char = this.#text[this.#at]
    if (char === '"') throw this.#unexpected('a string that ends on its line', 'close the quotes; write \\ as \\\\')
    if (char === '}') throw this.#unexpected(expected, 'remove the comma before it')
    throw this.#unexpected(expected, 'write names in double quotes')
  }

  #match(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at
    const found = pattern.exec(this.#text)
    if (found === null) return null
    this.#at += found[0].length
    return found[0]
  }

  #unexpected(expected: string, fix: string): JsonError {
    const char = this.#text[this.#at]
    if (char === undefined) {
      return new JsonError(this.#text, this.#at, `expected ${expected}, got the end of the file`, 'complete the file')
    }
    if (this.#text.startsWith('//', this.#at) || this.#text.startsWith('/*', this.#at)) {
      return new JsonError(this.#text, this.#at, 'expected JSON, got a comment', 'remove the comment')
    }
    return new JsonError(this.#text, this.#at, `expected ${expected}, got ${JSON.stringify(char)}`, fix)
  }
}
