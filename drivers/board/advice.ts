/** Advice on a valid board file that is probably not what its author wants. It rejects no board (HANDLES 8.9). */

import { busUsers, header } from './header.ts'
import { pwmChannelOf } from './models.ts'
import type { Board, BoardHandle } from './types.ts'

export interface Advice {
  /** The name of a handle, or a key of the board file. */
  readonly about: string
  readonly found: string
  /** What to change in the board file, or to do. */
  readonly fix: string
}

type Advise = (name: string, entry: BoardHandle, board: Board, written: Written) => Advice | null
/** The entries as written in the file, without defaults. */
type Written = Readonly<Record<string, Readonly<Record<string, unknown>> | undefined>>

/** Handle names that suggest something dangerous when it keeps running. */
const MOVES = /motor|wheel|enable|drive|pump|heat|fan|relay|valve|brake|laser|saw|spindle/i

/** `json` is the parsed text of the same board file, before defaults were filled in. */
export function advise(board: Board, json: unknown): Advice[] {
  const written = (json as { handles: Written }).handles
  const handles = Object.entries(board.handles).flatMap(([name, entry]) =>
    CHECKS.flatMap((check) => check(name, entry, board, written) ?? []),
  )
  return board.unconfined ? [...handles, UNCONFINED] : handles
}

const UNCONFINED: Advice = {
  about: 'unconfined',
  found: 'lets programs start without confinement: each can do everything that the runtime can',
  fix: 'remove it, and run medulla doctor to see what confinement needs',
}

const held: Advise = (name, entry) => {
  // no advice for a servo: one that stops driving lets its arm fall
  if (!('safe' in entry) || entry.safe !== 'hold' || entry.kind === 'servo') return null
  const found = 'keeps its last value when its program dies, and at an emergency stop ("safe": "hold")'
  return {
    about: name,
    found,
    fix: `write "safe": ${entry.kind === 'output' ? 'a level' : 'a value'} that harms nobody`,
  }
}

const unsafe: Advise = (name, entry, _, written) => {
  if (!('safe' in entry) || written[name]?.safe !== undefined) return null
  if (entry.kind === 'output' && !MOVES.test(name)) return null
  return {
    about: name,
    found: `has no "safe", so its initial value is its safe one: ${entry.initial}`,
    fix: `write "safe": ${entry.initial}, or another value that is safe`,
  }
}

const floating: Advise = (name, entry, { wires }) => {
  if (entry.kind !== 'input' || entry.pull !== 'none' || entry.edges === 'none') return null
  if (wires.some(([, input]) => input === name)) return null
  const sysfs = entry.driver === 'sysfs'
  return {
    about: name,
    found: 'has edges and no pull: while nothing drives the line, it floats and reports false edges',
    fix: sysfs ? 'fit a resistor to 3.3 V or to ground' : 'write "pull": "up" or "down", unless a resistor is fitted',
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

/** Bus functions that a Pi may have enabled: when, and the command that disables each. SPI1 is off by default. */
const OFF: readonly (readonly [RegExp, string, string])[] = [
  [/^I2C1/, 'when I2C is on, and has a resistor of 1.8 kΩ to 3.3 V', 'raspi-config nonint do_i2c 1'],
  [/^SPI0/, 'when SPI is on', 'raspi-config nonint do_spi 1'],
  [/^UART/, 'when the serial port or its console is on', 'raspi-config nonint do_serial_hw 1'],
]

/** Two PWM on one channel: an error on a real board (HANDLES 12.1), but the simulator has a channel for each line. */
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
    found: 'has pulses that a thread makes: on a busy machine the thread runs late, and an edge by milliseconds',
    fix: 'write "realtime": 50 at the top of the board',
  }
}

type WithLine = Extract<BoardHandle, { line: string }>
/** True for a pwm or a servo whose pulses come from PWM hardware. */
const isPwm = (entry: BoardHandle): entry is WithLine =>
  'line' in entry && entry.kind !== 'output' && entry.kind !== 'input' && entry.driver !== 'software'

const CHECKS: readonly Advise[] = [held, unsafe, floating, shared, twin, late]

/** Header lines that have no other common function and no handle. */
function freeLines({ model, handles }: Board): string[] {
  const used = new Set(Object.values(handles).flatMap((entry) => ('line' in entry ? [entry.line] : [])))
  const plain = header(model).filter(({ label, functions }) => label.startsWith('GPIO') && functions.length === 0)
  return plain.map(({ label }) => label).filter((label) => !used.has(label))
}
