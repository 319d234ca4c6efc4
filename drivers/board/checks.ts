/** Checks between the entries of a board: no hardware is used twice, and every reference names a handle (HANDLES 8). */

import { BoardError } from '../errors.ts'
import { suggest } from './mistake.ts'
import { hasPigpio, type PwmChannel, pwmChannelOf, pwmLines } from './models.ts'
import { chipOf, placeOf } from './places.ts'
import { MOST_SOFTWARE, tooFast } from './software.ts'
import type { Board, BoardHandle, PwmEntry } from './types.ts'

type Handles = Board['handles']

/** No two handles may use the same line, address, port or PWM channel (HANDLES 8.3, 12.1). */
export function checkPlaces(file: string, { model, handles }: Board): void {
  const holders = new Map<string, string>()
  for (const name in handles) {
    const entry = handles[name] as BoardHandle
    for (const place of placesOf(entry, model)) {
      const holder = holders.get(place)
      // several analog handles may share one converter, each with another of its inputs
      const shared = entry.kind === 'analog' && place !== placeOf(entry) && handles[holder ?? '']?.kind === 'analog'
      if (holder !== undefined && !shared) {
        const fix = place.startsWith('pwmchip') ? channelFix(name, { model, handles }) : `move "${holder}" or "${name}"`
        throw new BoardError(file, `handles.${name}`, `${place} is already used by "${holder}"${shares(place)}`, fix)
      }
      holders.set(place, name)
    }
  }
}

const shares = (place: string): string =>
  place.startsWith('pwmchip') ? ', and a channel has the same pulses on all of its lines' : ''

/** The other ways to make these pulses: a line with a free channel, or a driver that needs no channel. */
function channelFix(name: string, { model, handles }: Pick<Board, 'model' | 'handles'>): string {
  const others = Object.entries(handles).filter(([other]) => other !== name)
  const taken = new Set(others.flatMap(([, entry]) => placesOf(entry, model)))
  const free = pwmLines(model).filter((line) => {
    const channel = pwmChannelOf(model, line)
    return channel !== undefined && !taken.has(channelPlace(channel)) && !taken.has(line)
  })
  const ways = [
    ...(free.length > 0 ? [free.join(' or ')] : []),
    ...(pwmLines(model).length === 0 ? ['another channel'] : []),
    ...(handles[name]?.kind === 'pwm' ? ['any line with "driver": "software"'] : []),
    ...(hasPigpio(model) ? ['a line without hardware PWM with "driver": "pigpio"'] : []),
    'a PCA9685 on i2c',
  ]
  return `move "${name}" to ${ways.join(', or to ')}`
}

const channelPlace = ({ chip, channel }: PwmChannel): string => `pwmchip${chip}/pwm${channel}`

function placesOf(entry: BoardHandle, model: Board['model']): string[] {
  const place = placeOf(entry)
  if (entry.kind === 'analog') return [chipOf(entry), place]
  // the host is left out: a port that is bound on one address cannot be bound on all addresses
  if (entry.kind === 'listen') return [entry.port === undefined ? place : `port ${entry.port}`]
  if (entry.kind !== 'pwm' && entry.kind !== 'servo') return [place]
  // pigpio drives the same channels, bypassing the kernel
  const channel = entry.driver === 'pigpio' ? pwmChannelOf(model, entry.line) : entry.channel
  return channel === undefined ? [place] : [place, channelPlace(channel)]
}

/** A wire leads from an output to an input, and each input has at most one wire (HANDLES 8.4). */
export function checkWires(file: string, { handles, wires }: Board): void {
  const driven = new Map<string, string>()
  for (const [index, pair] of wires.entries()) {
    for (const end of [0, 1] as const) {
      const name = pair[end]
      const place = `wires[${index}][${end}]`
      const kind = handles[name]?.kind
      const wanted = end === 0 ? 'output' : 'input'
      if (kind === undefined) throw unknownHandle(file, place, name, handles)
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

/** The emergency stop must be an input that reports the edges to its stop level. */
export function checkEstop(file: string, { handles, estop }: Board): void {
  if (estop === undefined) return
  const entry = handles[estop.input]
  if (entry === undefined) throw unknownHandle(file, 'estop.input', estop.input, handles)
  if (entry.kind !== 'input') {
    const inputs = Object.keys(handles).filter((name) => handles[name]?.kind === 'input')
    const fix = inputs.length === 0 ? 'add an input to handles' : `write one of ${inputs.join(', ')}`
    throw new BoardError(
      file,
      'estop.input',
      `expected an input, got "${estop.input}", which is of kind ${entry.kind}`,
      fix,
    )
  }
  const needed = estop.level === 1 ? 'rising' : 'falling'
  if (entry.edges === 'both' || entry.edges === needed) return
  throw new BoardError(
    file,
    `handles.${estop.input}.edges`,
    `expected both or ${needed}, for the emergency stop at level ${estop.level}, got ${entry.edges}`,
    'write "edges": "both"',
  )
}

const isSoftware = (entry: BoardHandle): boolean => entry.kind === 'pwm' && entry.driver === 'software'

/** Software PWM is limited in number and frequency: one thread makes the edges of all handles (HANDLES 19.3). */
export function checkSoftware(file: string, { handles, realtime }: Board): void {
  const names = Object.keys(handles).filter((name) => isSoftware(handles[name] as BoardHandle))
  for (const name of names) {
    const { frequencyHz } = handles[name] as PwmEntry
    const error = tooFast(file, `handles.${name}.frequencyHz`, frequencyHz, realtime)
    if (error !== null) throw error
  }
  const surplus = names[MOST_SOFTWARE]
  if (surplus === undefined) return
  throw new BoardError(
    file,
    `handles.${surplus}`,
    `expected at most ${MOST_SOFTWARE} pwm with driver software, got ${names.length}`,
    `move "${surplus}" to a PCA9685 on i2c`,
  )
}

/** A model without a known GPIO chip needs the key "chip" (HANDLES 12.2). */
export function checkChip(file: string, { model, chip, handles }: Board): void {
  if (model === 'sim' || chip !== undefined) return
  for (const name in handles) {
    const { kind } = handles[name] as BoardHandle
    if (kind !== 'output' && kind !== 'input' && !isSoftware(handles[name] as BoardHandle)) continue
    throw new BoardError(
      file,
      'chip',
      `expected the label of the GPIO chip, for "${name}", got nothing`,
      'add "chip": the label that gpiodetect shows in brackets',
    )
  }
}

function unknownHandle(file: string, place: string, name: string, handles: Handles): BoardError {
  return new BoardError(file, place, `there is no handle "${name}"`, suggest(name, Object.keys(handles)))
}
