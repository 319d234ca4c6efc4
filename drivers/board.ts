/**
 * Invariant: a board that was parsed is complete (every default filled in) and has no line or address twice.
 *
 * The board file maps names to hardware (HANDLES 8). A mistake throws BoardError with its place and what to write.
 */
import { z } from 'zod'
import { placeOf } from './backend.ts'
import { BoardError } from './errors.ts'
import type { Level } from './handle.ts'
import { JsonError, parseJson } from './json.ts'
import { mistake, suggest } from './mistake.ts'
import { board, DEFAULT_TIMING, type ParsedBoard } from './schema.ts'

export { DEFAULT_TIMING }

export type Timing = { -readonly [key in keyof typeof DEFAULT_TIMING]: number }
type Via = 'inherit' | 'broker'

interface OutputEntry {
  kind: 'output'
  /** `GPIO0` to `GPIO53` */
  line: string
  initial: Level
  safe: Level | 'hold'
  /** true: level 1 drives the line low */
  activeLow: boolean
  via: Via
}

interface InputEntry {
  kind: 'input'
  line: string
  pull: 'up' | 'down' | 'none'
  edges: 'rising' | 'falling' | 'both' | 'none'
  /** a change shorter than this is not seen; 0 is off */
  debounceMs: number
  /** true: a low line reads as level 1 */
  activeLow: boolean
  via: Via
}

interface PwmEntry {
  kind: 'pwm'
  line: string
  frequencyHz: number
  initial: number
  safe: number | 'hold'
  /** limits of the duty cycle (HANDLES 6.5) */
  min: number
  max: number
  via: Via
}

interface I2cEntry {
  kind: 'i2c'
  bus: number
  address: number
  simulate?: 'mpu6050'
  via: 'broker'
}

export type BoardHandle = OutputEntry | InputEntry | PwmEntry | I2cEntry

export interface Board {
  name?: string
  model: 'sim' | 'pi3' | 'pi4' | 'pi5' | 'zero2w'
  handles: Record<string, BoardHandle>
  wires: [output: string, input: string][]
  timing: Timing
  /** SCHED_FIFO priority of programs; 0 is off */
  realtime: number
  memoryReserveMb: number
  unconfined: boolean
}

/** HANDLES 8.6: the schema that editors use for completion. */
export function boardJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(board, { io: 'input' })
}

/** `file` is only used in messages. Throws BoardError for the first mistake. */
export function parseBoard(text: string, file: string): Board {
  let json: unknown
  try {
    json = parseJson(text)
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
    throw new BoardError(file, `${error.line}:${error.column}`, error.message, error.fix)
  }
  const parsed = board.safeParse(json, { reportInput: true })
  if (!parsed.success) throw mistake(file, json, parsed.error.issues[0] as z.core.$ZodIssue)
  const { $schema: _, name, handles: entries, ...rest } = parsed.data
  const handles: Record<string, BoardHandle> = Object.create(null)
  for (const name in entries) handles[name] = complete(file, name, entries[name] as ParsedBoard['handles'][string])
  const result: Board = { ...rest, ...(name === undefined ? {} : { name }), handles }
  checkPlaces(file, handles)
  checkWires(file, result)
  if (result.model === 'sim') checkChips(file, handles)
  return result
}

/** HANDLES 6.2: without a safe level, the initial one is safe. */
function complete(file: string, name: string, given: ParsedBoard['handles'][string]): BoardHandle {
  if (given.kind === 'output') return { ...given, safe: given.safe ?? given.initial }
  if (given.kind === 'i2c') {
    const { simulate, ...rest } = given
    return simulate === undefined ? rest : { ...rest, simulate }
  }
  if (given.kind === 'input') return given
  const { min, max } = given
  const place = `handles.${name}`
  if (min > max) {
    throw new BoardError(file, `${place}.min`, `expected at most max (${max}), got ${min}`, 'swap min and max')
  }
  const safe = given.safe ?? given.initial
  for (const [key, value] of [
    ['initial', given.initial],
    ['safe', safe],
  ] as const) {
    if (value === 'hold' || (value >= min && value <= max)) continue
    throw new BoardError(
      file,
      `${place}.${key}`,
      `expected a duty cycle from min (${min}) to max (${max}), got ${value}`,
      `write "${key}": ${value < min ? min : max}, or move the limit`,
    )
  }
  return { ...given, safe }
}

/** HANDLES 8.3: nothing is held twice. */
function checkPlaces(file: string, handles: Record<string, BoardHandle>): void {
  const holders = new Map<string, string>()
  for (const name in handles) {
    const place = placeOf(handles[name] as BoardHandle)
    const holder = holders.get(place)
    if (holder !== undefined) {
      throw new BoardError(
        file,
        `handles.${name}`,
        `${place} is already used by "${holder}"`,
        `move "${holder}" or "${name}"`,
      )
    }
    holders.set(place, name)
  }
}

/** HANDLES 8.4: a wire goes from an output to an input, and an input has one driver. */
function checkWires(file: string, { handles, wires }: Board): void {
  const driven = new Map<string, string>()
  for (const [index, pair] of wires.entries()) {
    for (const end of [0, 1] as const) {
      const name = pair[end]
      const place = `wires[${index}][${end}]`
      const kind = handles[name]?.kind
      const wanted = end === 0 ? 'output' : 'input'
      if (kind === undefined) {
        throw new BoardError(file, place, `there is no handle "${name}"`, suggest(name, Object.keys(handles)))
      }
      if (kind !== wanted) {
        const fix = 'write the output first: ["led", "button"]'
        throw new BoardError(file, place, `expected an ${wanted}, got "${name}", which is of kind ${kind}`, fix)
      }
    }
    const other = driven.get(pair[1])
    if (other !== undefined) {
      throw new BoardError(
        file,
        `wires[${index}][1]`,
        `"${pair[1]}" is already wired to "${other}"`,
        'remove one of the wires',
      )
    }
    driven.set(pair[1], pair[0])
  }
}

function checkChips(file: string, handles: Record<string, BoardHandle>): void {
  for (const name in handles) {
    const handle = handles[name] as BoardHandle
    if (handle.kind !== 'i2c' || handle.simulate !== undefined) continue
    throw new BoardError(
      file,
      `handles.${name}.simulate`,
      'expected a chip model, got nothing',
      'write "simulate": "mpu6050"',
    )
  }
}
