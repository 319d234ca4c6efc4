/** Where two builds differ: which files, and the first place in each. */
import { isObject } from '../../shared/bundle/strict.ts'
import { BUILD_INFO_FILE } from '../buildinfo.ts'

export interface Difference {
  file: string
  /** `line 12, column 5`, `byte 7`, or a field of buildinfo.json; null if only one of the two has the file */
  where: string | null
  /** what the bundle has there; null if it has no such file */
  bundle: string | null
  /** what the rebuilt program has there; null if it has no such file */
  rebuilt: string | null
}

/** Characters shown before the first difference, and from it on. */
const [BEFORE, AFTER] = [20, 50]
const NEWLINE = 10

export function differences(
  bundle: ReadonlyMap<string, Uint8Array>,
  rebuilt: ReadonlyMap<string, Uint8Array>,
): Difference[] {
  const names = [...new Set([...bundle.keys(), ...rebuilt.keys()])].sort()
  return names.flatMap((file): Difference[] => {
    const [was, is] = [bundle.get(file), rebuilt.get(file)]
    if (was === undefined || is === undefined) {
      return [{ file, where: null, bundle: sizeOf(was), rebuilt: sizeOf(is) }]
    }
    if (Buffer.compare(was, is) === 0) return []
    const fields = file === BUILD_INFO_FILE ? differentFields(was, is) : []
    return fields.length > 0 ? fields.map((field) => ({ file, ...field })) : [{ file, ...firstDifference(was, is) }]
  })
}

const sizeOf = (bytes: Uint8Array | undefined): string | null => (bytes === undefined ? null : `${bytes.length} bytes`)

type Place = Omit<Difference, 'file'>

function firstDifference(was: Uint8Array, is: Uint8Array): Place {
  let at = 0
  while (at < was.length && at < is.length && was[at] === is[at]) at++
  if (was.includes(0) || is.includes(0)) return { where: `byte ${at}`, bundle: hexOf(was, at), rebuilt: hexOf(is, at) }
  const start = was.lastIndexOf(NEWLINE, at - 1) + 1
  const line = was.subarray(0, start).filter((byte) => byte === NEWLINE).length + 1
  const column = Buffer.from(was.subarray(start, at)).toString().length + 1
  const excerpt = (bytes: Uint8Array): string => {
    const end = bytes.indexOf(NEWLINE, at)
    const rest = Buffer.from(bytes.subarray(start, end === -1 ? bytes.length : end)).toString()
    const from = Math.max(0, column - 1 - BEFORE)
    return rest.slice(from, column - 1 + AFTER)
  }
  return { where: `line ${line}, column ${column}`, bundle: excerpt(was), rebuilt: excerpt(is) }
}

const hexOf = (bytes: Uint8Array, at: number): string => Buffer.from(bytes.subarray(at, at + 16)).toString('hex')

/** The fields of two JSON texts that differ, e.g. `vcs.revision` or `modules[0].h1`; empty for other texts. */
function differentFields(was: Uint8Array, is: Uint8Array): Place[] {
  try {
    return compareValues('', JSON.parse(Buffer.from(was).toString()), JSON.parse(Buffer.from(is).toString()))
  } catch {
    return []
  }
}

function compareValues(where: string, was: unknown, is: unknown): Place[] {
  const [a, b] = [entriesOf(was), entriesOf(is)]
  if (a !== null && b !== null && Array.isArray(was) === Array.isArray(is)) {
    const keys = [...new Set([...a.keys(), ...b.keys()])]
    const named = (key: string): string => (Array.isArray(was) ? `${where}[${key}]` : `${where}${where && '.'}${key}`)
    return keys.flatMap((key) => compareValues(named(key), a.get(key), b.get(key)))
  }
  const [bundle, rebuilt] = [JSON.stringify(was) ?? 'nothing', JSON.stringify(is) ?? 'nothing']
  return bundle === rebuilt ? [] : [{ where, bundle, rebuilt }]
}

function entriesOf(value: unknown): Map<string, unknown> | null {
  return Array.isArray(value) || isObject(value) ? new Map(Object.entries(value)) : null
}
