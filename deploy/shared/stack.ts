/**
 * Finds the place in the author's files where an error was thrown, with the source map of the build (BUNDLE 11.9).
 *
 * Used by the build, by the loader on the robot, and by the test kit. A map is read only when there is an error.
 */
import { SourceMap } from 'node:module'
import { relative, sep } from 'node:path'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'

/** The name in source maps for all files of the library. */
export const LIBRARY_SOURCE = 'medulla'

/** An error in a form that one process can send to another. */
export interface Thrown {
  readonly name: string
  readonly message: string
  readonly stack: string
}

export interface Place {
  readonly file: string
  /** from 1 */
  readonly line: number
  readonly column: number
}

export interface Explained {
  /** On one line, with the place: `TypeError: x is not a function at program.ts:8:41`. */
  readonly text: string
  /** The whole message, and below it the calls in the author's files and in packages. */
  readonly stack: string
  /** The innermost place in the author's files; in a package if there is none. */
  readonly place: Place | null
}

/**
 * For a file of a stack: the text of its source map; null if it has none; undefined if it is not a file of a program; for a
 * source file of the author, the folder (`root`) to which its name is relative.
 */
export type FindMap = (file: string) => string | { root: string } | null | undefined
type Found = SourceMap | { root: string } | null | undefined

/** Limit for text and place together: they must fit in the 300 characters of HANDOVER 3.9. */
const MAX_TEXT = 280
const MAX_MESSAGE = 2000
const MAX_FRAMES = 12
const MAX_CAUSES = 4
const FRAME = /^\s*at (?:(.+?) \()?(?:async )?([^()]+?):(\d+):(\d+)\)?$/
/** The name in a stack of the function that was given to `every`: the ticker calls it as a property. */
const CALLED_BY_US = /^(?:async )?Object\.fn$/

interface Frame extends Place {
  readonly call: string | null
}

/** The error and its causes, the innermost cause last. */
export function thrownBy(error: unknown): Thrown[] {
  const list: Thrown[] = []
  const seen = new Set<unknown>()
  for (let next = error; next !== undefined && !seen.has(next) && list.length < MAX_CAUSES; ) {
    seen.add(next)
    if (!(next instanceof Error) && !(typeof next === 'object' && next !== null && 'stack' in next)) {
      const message =
        typeof next === 'string' ? next : inspect(next, { depth: 1, breakLength: Number.POSITIVE_INFINITY })
      if (list.length === 0 || next !== null) list.push({ name: '', message: message.slice(0, MAX_MESSAGE), stack: '' })
      break
    }
    const { name, message, stack, cause, errors } = next as Error & { errors?: unknown }
    const inner = Array.isArray(errors) ? [...new Set(errors.map((each) => String(each?.message ?? each)))] : []
    const text = String(message) || inner.slice(0, 3).join('; ')
    list.push({ name: String(name ?? ''), message: text.slice(0, MAX_MESSAGE), stack: String(stack ?? '') })
    next = cause
  }
  return list
}

/** Makes the text of an error for people. `thrown` is the result of {@link thrownBy}. */
export function explain(thrown: readonly Thrown[], findMap: FindMap): Explained {
  const maps = new Map<string, Found>()
  const mapOf = (file: string): Found => {
    if (!maps.has(file)) maps.set(file, parsed(findMap(file)))
    return maps.get(file)
  }
  let place: Place | null = null
  let frames: Frame[] = []
  for (const { stack } of thrown) {
    const found = framesOf(stack, mapOf)
    if (frames.length === 0) frames = found
    place ??= found.find(isAuthors) ?? null
  }
  place ??= frames[0] ?? null
  const headline = headlineOf(thrown)
  const at = place === null ? '' : ` at ${placeText(place)}`
  const flat = headline.replace(/\s+/g, ' ')
  const room = Math.max(40, MAX_TEXT - at.length)
  const text = `${flat.length > room ? `${flat.slice(0, room - 1)}…` : flat}${at}`
  const calls = frames.slice(0, MAX_FRAMES).map(frameText)
  const isOneLine = calls.length < 2 && flat === headline && flat.length <= room
  return { text, stack: isOneLine ? text : [headline, ...calls].join('\n'), place }
}

/** A place in a bundle, as a stack has it. It matches from the beginning of a word only, so that a long text takes linear time. */
const IN_BUNDLE = /(?<![^\s()])[^\s()]*\/program\.mjs:(\d+):(\d+)/g

/**
 * Returns a function that replaces the places in the bundle by those in the author's files, in text that a program prints: the
 * stacks of errors, which end with the outermost call in the author's files. `read` gives the text of the source map. It is called once, for the first text with such a place.
 */
export function placeMapper(read: () => string | null): (text: string) => string {
  let map: Found
  return (text) => {
    if (!text.includes('/program.mjs:')) return text
    if (map === undefined) map = parsed(read())
    const found = map
    if (found === null || found === undefined) return text
    const lines: string[] = []
    // calls below the last one in the author's files, so far; null: this stack has had none there
    let below: string[] | null = null
    for (const line of [...text.split('\n'), END]) {
      let isAuthors = false
      const named = line.replace(IN_BUNDLE, (file, row, column) => {
        const place = mapped(found, file, Number(row), Number(column))
        isAuthors ||= place !== null
        return place === null ? LIBRARY_SOURCE : placeText(place)
      })
      if (TRACE_ITSELF.test(line)) continue
      const isCall = CALL.test(line)
      if (isCall && !isAuthors && below !== null) {
        below.push(named)
        continue
      }
      if (isCall && isAuthors) {
        lines.push(...(below ?? []))
        below = []
      } else if (!isCall) {
        // the properties of an error begin in the line of its last call
        if (below?.at(-1)?.endsWith(' {')) lines.push(`${lines.pop()} {`)
        below = null
      }
      if (line !== END) lines.push(named)
    }
    return lines.join('\n')
  }
}

/** Behind the last line of a text. */
const END = '\n'
/** A line of a stack, also what util.inspect writes in the place of calls that the cause has as well. */
const CALL = /^\s+(?:at |\.\.\. \d+ lines matching )/
/** Our function in the place of Node's. */
const TRACE_ITSELF = /^\s+at console\.trace \(/

export const placeText = ({ file, line, column }: Place): string => `${file}:${line}:${column}`

const isAuthors = ({ file }: Place): boolean => !/(?:^|\/)node_modules\//.test(file)

function headlineOf([first, ...causes]: readonly Thrown[]): string {
  if (first === undefined) return 'unknown error'
  let text = titled(first)
  for (const cause of causes) {
    if (cause.message !== '' && !text.includes(cause.message)) text += ` (cause: ${titled(cause)})`
  }
  return text
}

function titled({ name, message }: Thrown): string {
  if (name === '' || name === 'Error') return message || name
  return message === '' ? name : `${name}: ${message}`
}

/** The calls of a stack without those of the library, the runtime and Node, up to the outermost call in the author's files. */
function framesOf(stack: string, mapOf: (file: string) => Found): Frame[] {
  const frames: Frame[] = []
  for (const line of stack.split('\n')) {
    const [, call = null, file = '', row = '', column = ''] = FRAME.exec(line) ?? []
    const map = file === '' ? undefined : mapOf(file)
    if (map === undefined) continue
    const found = mapped(map, file, Number(row), Number(column))
    if (found !== null) frames.push({ ...found, call: call === null || CALLED_BY_US.test(call) ? null : call })
  }
  return frames.slice(0, frames.findLastIndex(isAuthors) + 1 || undefined)
}

function mapped(map: Exclude<Found, undefined>, file: string, line: number, column: number): Place | null {
  if (map === null) return { file: file.replace(/^.*\//, '').replace(/\?.*$/, ''), line, column }
  if ('root' in map) {
    const path = file.startsWith('file:') ? fileURLToPath(file) : file
    return { file: relative(map.root, path).split(sep).join('/'), line, column }
  }
  const found = map.findEntry(line - 1, column - 1) as Partial<ReturnType<SourceMap['findEntry']>>
  const { originalSource, originalLine, originalColumn } = found as {
    originalSource?: string
    originalLine?: number
    originalColumn?: number
  }
  if (originalSource === undefined || originalSource === LIBRARY_SOURCE) return null
  return { file: originalSource, line: (originalLine ?? 0) + 1, column: (originalColumn ?? 0) + 1 }
}

function frameText(frame: Frame): string {
  return frame.call === null ? `    at ${placeText(frame)}` : `    at ${frame.call} (${placeText(frame)})`
}

function parsed(text: ReturnType<FindMap>): Found {
  if (typeof text !== 'string') return text
  try {
    return new SourceMap(JSON.parse(text))
  } catch {
    return null
  }
}
