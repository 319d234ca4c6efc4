/** Invariant: only what parses is advised on, and advice never keeps a board from being used (HANDLES 8.9). */

import { busUsers, header } from './header.ts'
import { pwmChannelOf } from './models.ts'
import type { Board, BoardHandle } from './types.ts'

export interface Advice {
  /** A handle, or a key of the board. */
  readonly about: string
  readonly found: string
  /** What to write, or to do, instead. */
  readonly fix: string
}

type Advise = (name: string, entry: BoardHandle, board: Board, written: Written) => Advice | null
/** The entries as they stand in the file: what is a default is not in them. */
type Written = Readonly<Record<string, Readonly<Record<string, unknown>> | undefined>>

/** Names of things that harm when they run on. */
const MOVES = /motor|wheel|enable|drive|pump|heat|fan|relay|valve|brake|laser|saw|spindle/i

/** `json` is the value of the text that `board` was parsed from. */
export function advise(board: Board, json: unknown): Advice[] {
  const written = (json as { handles: Written }).handles
  const handles = Object.entries(board.handles).flatMap(([name, entry]) =>
    CHECKS.flatMap((check) => check(name, entry, board, written) ?? []),
  )
  return board.unconfined ? [...handles, UNCONFINED] : handles
}

const UNCONFINED: Advice = {
  about: 'unconfined',
  found: 'lets programs start that nothing confines: each may do all that the runtime may',
  fix: 'remove it, and see what medulla doctor says of confinement',
}

const held: Advise = (name, entry) => {
  // a servo that lets go of an arm is worse than one that holds it
  if (!('safe' in entry) || entry.safe !== 'hold' || entry.kind === 'servo') return null
  const found = 'keeps what it was given when its program dies, and at an emergency stop ("safe": "hold")'
  return {
    about: name,
    found,
    fix: `write "safe": ${entry.kind === 'output' ? 'the level' : 'the value'} that harms nobody`,
  }
}

const unsafe: Advise = (name, entry, _, written) => {
  if (!('safe' in entry) || written[name]?.safe !== undefined) return null
  if (entry.kind === 'output' && !MOVES.test(name)) return null
  return {
    about: name,
    found: `has no safe level of its own: it is the initial one, ${entry.initial}`,
    fix: `write "safe": ${entry.initial}, or what is safe`,
  }
}

const floating: Advise = (name, entry, { wires }) => {
  if (entry.kind !== 'input' || entry.pull !== 'none' || entry.edges === 'none') return null
  if (wires.some(([, input]) => input === name)) return null
  const sysfs = entry.driver === 'sysfs'
  return {
    about: name,
    found: 'has edges and no pull: while nothing drives it, it sees edges that are none',
    fix: sysfs ? 'fit a resistor to 3.3 V or to ground' : 'write "pull": "up" or "down", unless there is a resistor',
  }
}

const shared: Advise = (name, entry, board) => {
  if (!('line' in entry)) return null
  const { line } = entry
  const pin = header(board.model).find(({ label }) => label === line)
  const role = pin?.functions.find((role) => /^(?:I2C|SPI|UART|ID)/.test(role))
  if (role === undefined) return null
  const fix = `move it to ${freeLines(board).slice(0, 4).join(', ')}`
  if (role.startsWith('ID')) {
    return { about: name, found: `is on ${line}, which the firmware uses at start to look for a HAT (${role})`, fix }
  }
  const users = busUsers(board, line)
  if (users.length > 0) {
    return { about: name, found: `is on ${line}, which is ${role}, and "${users[0]}" needs that bus`, fix }
  }
  const off = OFF.find(([pattern]) => pattern.test(role))
  if (off === undefined) return null
  return { about: name, found: `is on ${line}, which is ${role} ${off[1]}`, fix: `${fix}, or ${off[2]}` }
}

/** Functions that a Pi may have on already: when, and how they are taken off. SPI1 is on only when somebody asked for it. */
const OFF: readonly (readonly [RegExp, string, string])[] = [
  [/^I2C1/, 'when I2C is on, and has a resistor of 1.8 kΩ to 3.3 V', 'raspi-config nonint do_i2c 1'],
  [/^SPI0/, 'when SPI is on', 'raspi-config nonint do_spi 1'],
  [/^UART/, 'when the serial port or its console is on', 'raspi-config nonint do_serial_hw 1'],
]

/** On a real board that is a mistake (HANDLES 12.1); a simulated one has channels for all. */
const twin: Advise = (name, entry, { model, handles }) => {
  if (model !== 'sim' || !isPwm(entry)) return null
  const channel = pwmChannelOf('pi4', entry.line)?.channel
  const other = Object.entries(handles).find(
    ([other, entry]) => other !== name && isPwm(entry) && pwmChannelOf('pi4', entry.line)?.channel === channel,
  )
  if (channel === undefined || other === undefined) return null
  const found = `shares PWM channel ${channel} with "${other[0]}" on a Pi 3 or 4: both would get the same pulses`
  return { about: name, found, fix: 'take one of GPIO12, 18 and one of GPIO13, 19' }
}

const late: Advise = (name, entry, { model, realtime }) => {
  if (model === 'sim' || realtime > 0 || entry.kind !== 'pwm' || entry.driver !== 'software') return null
  return {
    about: name,
    found:
      'has pulses that a thread makes, which waits for its turn on a busy machine: an edge is milliseconds late then',
    fix: 'write "realtime": 50 at the top of the board',
  }
}

type WithLine = Extract<BoardHandle, { line: string }>
/** Made by hardware. */
const isPwm = (entry: BoardHandle): entry is WithLine =>
  'line' in entry && entry.kind !== 'output' && entry.kind !== 'input' && entry.driver !== 'software'

const CHECKS: readonly Advise[] = [held, unsafe, floating, shared, twin, late]

/** Lines of the header with no other use that is common, and no handle. */
function freeLines({ model, handles }: Board): string[] {
  const used = new Set(Object.values(handles).flatMap((entry) => ('line' in entry ? [entry.line] : [])))
  const plain = header(model).filter(({ label, functions }) => label.startsWith('GPIO') && functions.length === 0)
  return plain.map(({ label }) => label).filter((label) => !used.has(label))
}
