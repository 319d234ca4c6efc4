/** Turns a schema error into a BoardError: the path, what was expected, what the file has, and a suggested fix. */
import type * as z from 'zod'
import { BoardError } from '../errors.ts'
import { hasPigpio, type Model } from './models.ts'
import { nearest } from './nearest.ts'
import { board, channel, entry, estop, limits, timing } from './schema.ts'
import { tooFast } from './software.ts'

type Issue = z.core.$ZodIssue

/** Other names that people use for a kind of handle. */
const KINDS: Readonly<Record<string, string>> = {
  onewire: 'temperature',
  '1wire': 'temperature',
  '1-wire': 'temperature',
  w1: 'temperature',
  ds18b20: 'temperature',
  adc: 'analog',
}

/** The fix for an unknown word: the nearest known one, or the list of all. */
export function suggest(got: string, known: readonly string[]): string {
  const near = nearest(got, known)
  if (near !== null) return `write "${near}"`
  if (known.length === 1) return `write "${known[0]}"`
  return known.length === 0 ? 'remove it' : `write one of ${known.join(', ')}`
}

/** `knownKeys` lists the keys that the object at `path` may have, for the suggestion after an unknown key. */
export function boardErrorOf(
  file: string,
  json: unknown,
  issue: Issue,
  knownKeys: (path: readonly PropertyKey[], got: unknown) => string[] = boardKeys,
): BoardError {
  const path = issue.path.map((part) => String(part))
  const got = path.reduce<unknown>((value, key) => (value as Record<string, unknown> | null | undefined)?.[key], json)
  const parent = path.slice(0, -1).reduce<unknown>((value, key) => (value as Record<string, unknown>)[key], json)
  const fail = (place: string, message: string, fix: string) => new BoardError(file, place || 'board', message, fix)
  const place = pathText(issue.path)
  const shown = got === undefined ? 'nothing' : JSON.stringify(got)
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0] as string
    const known = knownKeys(issue.path, got)
    return fail(
      place === '' ? key : `${place}.${key}`,
      'unknown key',
      suggest(
        key,
        known.filter((name) => !(name in (got as object))),
      ),
    )
  }
  if (issue.code === 'invalid_key') {
    const key = path.at(-1) as string
    const why = issue.issues[0]?.message ?? 'expected another name'
    return fail(place, `${why}, got ${JSON.stringify(key)}`, 'rename the handle')
  }
  if (issue.code === 'invalid_union' && path.at(-1) === 'kind') {
    const kinds = entry.options.map(({ shape }) => shape.kind.value)
    const meant = KINDS[String(got)] ?? String(got)
    return fail(place, `expected one of ${kinds.join(', ')}, got ${shown}`, suggest(meant, kinds))
  }
  if (issue.code === 'invalid_value' && path.at(-1) === 'adc' && /^mcp300[48]$/i.test(String(got))) {
    const fix = 'write "kind": "spi" with its "bus" and "select", and new Mcp3008(handle) in the program'
    return fail(place, `expected an ADC on I2C (${issue.values.join(', ')}), got ${shown}`, fix)
  }
  if (issue.code === 'invalid_value') {
    const values = issue.values.map(String).filter((value) => value !== 'pigpio' || acceptsPigpio(json))
    return fail(place, `expected one of ${values.join(', ')}, got ${shown}`, suggest(String(got ?? ''), values))
  }
  // the limit of software PWM is far below the schema's
  const { kind, driver } = Object(parent) as { kind?: unknown; driver?: unknown }
  if (issue.code === 'too_big' && path.at(-1) === 'frequencyHz' && kind === 'pwm' && driver === 'software') {
    const error = tooFast(file, place, Number(got), Number(Object(json).realtime ?? 0))
    if (error !== null) return error
  }
  // messages that schema.ts defines begin with "expected" and say more than a bound does
  const own = issue.message.startsWith('expected ')
  if (!own && (issue.code === 'too_small' || issue.code === 'too_big')) {
    const least = issue.code === 'too_small'
    const bound = least ? issue.minimum : issue.maximum
    const unit = typeof got === 'string' ? ' characters' : ''
    return fail(
      place,
      `expected at ${least ? 'least' : 'most'} ${bound}${unit}, got ${shown}`,
      `write ${bound} or ${least ? 'more' : 'less'}`,
    )
  }
  const key = path.at(-1)
  const change = typeof issue.path.at(-1) === 'number' ? place : `"${key ?? 'the file'}"`
  const fix = got === undefined && parent !== undefined ? `add "${key}"` : `change ${change}`
  const wanted = issue.code === 'invalid_type' && !own ? `expected ${noun(issue.expected)}` : issue.message
  return fail(place, `${wanted}, got ${shown.length > 60 ? `${shown.slice(0, 57)}...` : shown}`, fix)
}

/** The schema has the drivers of all models; a simulated board takes each of them. */
function acceptsPigpio(json: unknown): boolean {
  const { model } = Object(json) as { model: Model }
  return model === 'sim' || hasPigpio(model)
}

function noun(type: string): string {
  if (type === 'int') return 'a whole number'
  if (type === 'record') return 'an object'
  return `${/^[aeiou]/.test(type) ? 'an' : 'a'} ${type}`
}

function pathText(path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`
    return text === '' ? String(part) : `${text}.${String(part)}`
  }, '')
}

function boardKeys(path: readonly PropertyKey[], got: unknown): string[] {
  if (path.length === 0) return Object.keys(board.shape)
  const section = { timing, limits, estop }[String(path[0])] ?? (path[2] === 'channel' ? channel : undefined)
  if (section !== undefined) return Object.keys(section.shape)
  const kind = (got as { kind?: unknown }).kind
  const option = entry.options.find(({ shape }) => shape.kind.value === kind)
  return option === undefined ? [] : Object.keys(option.shape)
}
