/**
 * A JSON parser (RFC 8259) that also accepts comments and trailing commas (HANDLES 8.7) and reports the position of the
 * first mistake.
 *
 * People edit board files by hand. JSON.parse gives no position for many mistakes, and silently takes the second of two
 * equal names.
 */

const MAX_DEPTH = 32

/** Line and column count from 1; columns are UTF-16 units, as in editors. */
export interface Position {
  readonly line: number
  readonly column: number
  /** length of the marked text, in UTF-16 units */
  readonly length: number
}

export class JsonError extends Error {
  readonly at: Position
  /** The change that would correct the file. */
  readonly fix: string
  constructor(at: Position, message: string, fix: string) {
    super(message)
    this.at = at
    this.fix = fix
  }
}

export interface Document {
  readonly value: unknown
  /**
   * The position of a path (`handles.led.kind`, `wires[0]`), or of its nearest parent that is in the file. For a
   * member, the marked text begins at its name.
   */
  locate(path: string): Position
}

const LITERALS: [string, unknown][] = [
  ['true', true],
  ['false', false],
  ['null', null],
]
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
// biome-ignore lint/suspicious/noControlCharactersInRegex: RFC 8259 section 7 forbids them in strings
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y

/** Throws JsonError for the first mistake. */
export function parseJson(given: string): Document {
  const text = given.startsWith('\ufeff') ? given.slice(1) : given
  const parser = new Parser(text)
  const value = parser.parse()
  const locate = (path: string): Position => {
    for (let at = path; at !== ''; at = at.replace(/(?:^|\.|\[)[^.[]*$/, '')) {
      const span = parser.spans.get(at)
      if (span !== undefined) return positionOf(text, ...span)
    }
    return positionOf(text, parser.start, parser.start + 1)
  }
  return { value, locate }
}

function positionOf(text: string, start: number, end: number): Position {
  const before = text.slice(0, start).split('\n')
  return { line: before.length, column: (before.at(-1) ?? '').length + 1, length: Math.max(1, end - start) }
}

type Span = [start: number, end: number]

class Parser {
  /** Spans by path. A member's span runs from its name to the end of its value, but not past the end of the line. */
  readonly spans = new Map<string, Span>()
  readonly #text: string
  #at = 0
  #depth = 0
  /** Offset of the first value in the text. */
  start = 0

  constructor(text: string) {
    this.#text = text
  }

  parse(): unknown {
    this.#space()
    this.start = this.#at
    const value = this.#value('')
    this.#space()
    if (this.#at < this.#text.length) throw this.#unexpected('the end', 'remove what follows the last brace')
    return value
  }

  /** Skips white space and comments (HANDLES 8.7). */
  #space(): void {
    for (;;) {
      const start = this.#at
      if (this.#text.startsWith('//', start)) this.#at = this.#find('\n', start) ?? this.#text.length
      else if (this.#text.startsWith('/*', start)) {
        const end = this.#find('*/', start + 2)
        if (end === undefined) throw this.#fail(start, start + 2, 'the comment has no end', 'write */ at its end')
        this.#at = end + 2
      } else if (' \t\n\r'.includes(this.#text[start] ?? 'x')) this.#at++
      else return
    }
  }

  #find(text: string, from: number): number | undefined {
    const found = this.#text.indexOf(text, from)
    return found < 0 ? undefined : found
  }

  #mark(path: string, start: number): void {
    const line = this.#find('\n', start) ?? this.#text.length
    this.spans.set(path, [start, Math.min(this.#at, this.#text[line - 1] === '\r' ? line - 1 : line)])
  }

  #value(path: string): unknown {
    this.#space()
    const char = this.#text[this.#at]
    if (char === '{' || char === '[') {
      if (++this.#depth > MAX_DEPTH) throw this.#unexpected(`at most ${MAX_DEPTH} levels`, 'nest less deeply')
      const value = char === '{' ? this.#object(path) : this.#array(path)
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
    if (char === '}' || char === ']') throw this.#unexpected('a value', 'write a value before it')
    throw this.#unexpected('a value', char === "'" ? 'write double quotes' : 'write text in double quotes')
  }

  #object(path: string): Record<string, unknown> {
    const result: Record<string, unknown> = Object.create(null)
    this.#at++
    for (;;) {
      this.#space()
      if (this.#text[this.#at] === '}') return this.#end(result)
      const start = this.#at
      const key = this.#string('a name in double quotes')
      if (key in result) {
        throw this.#fail(start, this.#at, `"${key}" is given twice`, 'rename or remove one of them')
      }
      this.#space()
      if (this.#text[this.#at] !== ':') throw this.#unexpected('":"', `write a colon after "${key}"`)
      this.#at++
      const below = path === '' ? key : `${path}.${key}`
      result[key] = this.#value(below)
      this.#mark(below, start)
      this.#space()
      if (this.#text[this.#at] === '}') return this.#end(result)
      this.#comma('}')
    }
  }

  #array(path: string): unknown[] {
    const result: unknown[] = []
    this.#at++
    for (;;) {
      this.#space()
      if (this.#text[this.#at] === ']') return this.#end(result)
      const start = this.#at
      const below = `${path}[${result.length}]`
      result.push(this.#value(below))
      this.#mark(below, start)
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
    const at = this.#at
    const char = this.#text[at]
    if (char === undefined)
      return this.#fail(at, at, `expected ${expected}, got the end of the file`, 'complete the file')
    return this.#fail(at, at + 1, `expected ${expected}, got ${JSON.stringify(char)}`, fix)
  }

  #fail(start: number, end: number, message: string, fix: string): JsonError {
    return new JsonError(positionOf(this.#text, start, end), message, fix)
  }
}
