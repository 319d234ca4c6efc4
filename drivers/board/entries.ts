/** Fills in the defaults of an entry that depend on its other keys or on the board's model (HANDLES 8.1). */

import { BoardError } from '../errors.ts'
import { hasPigpio, type PwmChannel, pwmChannelOf, pwmLines } from './models.ts'
import type { ParsedBoard } from './schema.ts'
import { SOFTWARE_MOST_HZ } from './software.ts'
import type { Board, BoardHandle, Via } from './types.ts'

type Given = ParsedBoard['handles'][string]
type GivenOf<K extends Given['kind']> = Extract<Given, { kind: K }>
type Model = Board['model']
type Fail = (key: string, message: string, fix: string) => BoardError

/** Returns the complete entry. Throws BoardError for values that do not go together. */
export function completeEntry(file: string, model: Model, name: string, given: Given): BoardHandle {
  const fail: Fail = (key, message, fix) => new BoardError(file, `handles.${name}.${key}`, message, fix)
  switch (given.kind) {
    case 'output':
      if (model !== 'sim' && given.driver === 'sysfs' && given.drive !== 'push-pull') {
        throw fail('drive', `expected push-pull with driver sysfs, got ${given.drive}`, 'write "driver": "cdev"')
      }
      // the initial level is the default of "safe" (HANDLES 6.2)
      return { ...given, safe: given.safe ?? given.initial }
    case 'input':
      if (model !== 'sim' && given.driver === 'sysfs' && given.pull !== 'none') {
        // only the firmware of a Pi sets pulls at boot (config.txt)
        const atBoot = `set the pull at boot (gpio=${given.line.slice(4)}=ip,p${given.pull[0]})`
        const fix = model === 'linux' ? 'fit a resistor and write "pull": "none"' : atBoot
        throw fail('pull', `expected none with driver sysfs, got ${given.pull}`, `write "driver": "cdev", or ${fix}`)
      }
      return given
    case 'pwm':
      return completePwm(fail, model, given)
    case 'servo':
      return completeServo(fail, model, given)
    case 'i2c':
      return completeI2c(fail, model, given)
    case 'analog':
      return completeAnalog(fail, model, given)
    case 'serial':
    case 'temperature':
      return given
    case 'listen':
      return completeListen(fail, given)
    case 'spi':
      return completeSpi(fail, model, given)
  }
}

function completePwm(fail: Fail, model: Model, { channel, via, safe: given, ...rest }: GivenOf<'pwm'>): BoardHandle {
  const { min, max, initial } = rest
  if (min > max) throw fail('min', `expected at most max (${max}), got ${min}`, 'swap min and max')
  const safe = given ?? initial
  if (rest.driver === 'software') return completeSoftware(fail, rest, { safe, via, channel })
  checkWithin(fail, { initial, safe }, 'a duty cycle from min', min, 'max', max)
  return { ...rest, safe, ...reached(fail, model, rest, channel, via) }
}

/** A thread makes these pulses (HANDLES 19). They end with its process, so the safe value must be a level: 0 or 1. */
function completeSoftware(
  fail: Fail,
  rest: Omit<GivenOf<'pwm'>, 'channel' | 'via' | 'safe'>,
  { safe, via, channel }: { safe: number | 'hold'; via: Via | undefined; channel: PwmChannel | undefined },
): BoardHandle {
  const { min, max, initial } = rest
  const levels = [0, 1].filter((level) => level >= min && level <= max)
  const [level] = levels
  if (level === undefined) {
    const expected = 'expected 0 with driver software, whose safe value is 0 or 1 and lies from min to max'
    throw fail('min', `${expected}, got ${min}`, 'write "min": 0, or "max": 1')
  }
  checkWithin(fail, { initial }, 'a duty cycle from min', min, 'max', max)
  if (!levels.some((each) => each === safe)) {
    const limits = levels.length === 1 ? `, and from min (${min}) to max (${max})` : ''
    const expected = `expected ${levels.join(' or ')} with driver software, whose pulses end with the runtime${limits}`
    throw fail('safe', `${expected}, got ${JSON.stringify(safe)}`, `write "safe": ${level}`)
  }
  if (channel !== undefined) throw fail('channel', 'expected none with driver software', 'remove it')
  if (via === 'inherit') throw fail('via', 'expected broker with driver software, got inherit', 'write "via": "broker"')
  return { ...rest, safe, via: 'broker' }
}

function completeServo(fail: Fail, model: Model, { channel, via, safe, ...rest }: GivenOf<'servo'>): BoardHandle {
  const {
    degrees: [lowest, highest],
    minUs,
    maxUs,
    frequencyHz,
  } = rest
  if (lowest >= highest) {
    const expected = `expected the lower angle first, got [${lowest}, ${highest}]`
    throw fail('degrees', expected, `write [${highest}, ${lowest}], or another range`)
  }
  if (minUs >= maxUs) throw fail('minUs', `expected less than maxUs (${maxUs}), got ${minUs}`, 'swap minUs and maxUs')
  const periodUs = 1e6 / frequencyHz
  if (maxUs >= periodUs) {
    const expected = `expected less than the period (${Math.round(periodUs)} us), got ${maxUs}`
    throw fail('maxUs', expected, 'write a shorter pulse, or a lower "frequencyHz"')
  }
  const initial = rest.initial ?? (lowest + highest) / 2
  const values = { initial, safe: safe ?? initial }
  checkWithin(fail, values, 'degrees from', lowest, 'to', highest)
  return { ...rest, ...values, ...reached(fail, model, rest, channel, via) }
}

/** Throws when `initial` or `safe` lies outside the limits. */
function checkWithin(
  fail: Fail,
  values: { initial: number; safe?: number | 'hold' },
  what: string,
  min: number,
  upTo: string,
  max: number,
): void {
  for (const key of ['initial', 'safe'] as const) {
    const value = values[key]
    if (value === undefined || value === 'hold' || (value >= min && value <= max)) continue
    const limits = upTo === 'max' ? `(${min}) to max (${max})` : `${min} to ${max}`
    throw fail(
      key,
      `expected ${what} ${limits}, got ${value}`,
      `write "${key}": ${value < min ? min : max}, or move the limit`,
    )
  }
}

/** `via` and `channel` of a pwm or servo whose pulses come from PWM hardware. */
function reached(
  fail: Fail,
  model: Model,
  { kind, line, driver }: Pick<GivenOf<'pwm' | 'servo'>, 'kind' | 'line' | 'driver'>,
  channel: PwmChannel | undefined,
  via: Via | undefined,
): { via: Via; channel?: PwmChannel } {
  const way = { via: via ?? 'inherit' }
  if (model === 'sim') return channel === undefined ? way : { ...way, channel }
  if (driver === 'pigpio') {
    // pigpio knows the registers of a few chips only (HANDLES 12.9)
    if (!hasPigpio(model)) {
      const lines = pwmLines(model).join(', ')
      const kernel = `write "driver": "kernel"${lines === '' ? '' : ` and one of ${lines}`}`
      throw fail('driver', `pigpio does not run on a board of model ${model}`, `${kernel}, or use a PCA9685 on i2c`)
    }
    if (via === 'inherit') throw fail('via', 'expected broker with driver pigpio, got inherit', 'write "via": "broker"')
    return { via: 'broker' }
  }
  const found = channel ?? pwmChannelOf(model, line)
  if (found !== undefined) return { ...way, channel: found }
  const example = '"channel": { "chip": 0, "channel": 0 }'
  // not for a servo: an edge that is late changes the pulse, and the arm moves
  const software = kind === 'pwm' ? [`"driver": "software" (at most ${SOFTWARE_MOST_HZ} Hz)`] : []
  if (model === 'linux') {
    const or = software.map((way) => `, or write ${way}`).join('')
    throw fail('channel', 'expected a channel of a PWM chip, got nothing', `add ${example} for pwmchip0/pwm0${or}`)
  }
  const others = [...software, hasPigpio(model) ? '"driver": "pigpio"' : 'a PCA9685 on i2c']
  throw fail(
    'line',
    `expected a line with hardware PWM, got ${line}`,
    `write one of ${pwmLines(model).join(', ')}, add ${example}, or use ${others.join(' or ')}`,
  )
}

function completeAnalog(fail: Fail, model: Model, { via, ...rest }: GivenOf<'analog'>): BoardHandle {
  const { address } = rest
  if (address < 0x48 || address > 0x4b) {
    const got = `0x${address.toString(16)}`
    throw fail(
      'address',
      `expected an address that an ADS1115 has, 0x48 to 0x4b, got ${got}`,
      'write "address": "0x48"',
    )
  }
  return { ...rest, via: i2cVia(fail, model, via) }
}

function completeListen(fail: Fail, { port, path, ...rest }: GivenOf<'listen'>): BoardHandle {
  if (port !== undefined && path !== undefined) {
    throw fail('path', 'expected a port or a path, got both', 'remove one of them')
  }
  if (path !== undefined) return { ...rest, path }
  if (port === undefined) throw fail('port', 'expected a port or a path, got nothing', 'write "port": 8080')
  return { ...rest, port }
}

/** A simulated bus exists only in the body's process, so programs reach it through the broker. */
function i2cVia(fail: Fail, model: Model, via: Via | undefined): Via {
  if (model !== 'sim') return via ?? 'inherit'
  if (via !== 'inherit') return 'broker'
  throw fail('via', 'expected one of broker, got "inherit"', 'write one of broker')
}

function completeI2c(fail: Fail, model: Model, { simulate, via, ...rest }: GivenOf<'i2c'>): BoardHandle {
  const way = i2cVia(fail, model, via)
  if (model === 'sim') {
    // the simulator must know which chip to simulate (HANDLES 8.5)
    if (simulate === undefined) {
      throw fail('simulate', 'expected a chip model, got nothing', 'write "simulate": "mpu6050"')
    }
  }
  const entry = { ...rest, via: way }
  return simulate === undefined ? entry : { ...entry, simulate }
}

function completeSpi(fail: Fail, model: Model, { simulate, via, ...rest }: GivenOf<'spi'>): BoardHandle {
  const chip = simulate === undefined ? {} : { simulate }
  if (model !== 'sim') {
    if (via === 'broker') throw fail('via', 'expected one of inherit, got "broker"', 'write one of inherit')
    return { ...rest, ...chip, via: 'inherit' }
  }
  // the simulator must know which chip to simulate (HANDLES 8.5)
  if (simulate === undefined) {
    const fix = 'write "simulate": "mcp3008", or "loopback" for a wire from MOSI to MISO'
    throw fail('simulate', 'expected a chip model, got nothing', fix)
  }
  // MCP3008 data sheet (DS21295D), 6.1: "SPI modes 0,0 and 1,1"
  if (simulate === 'mcp3008' && rest.mode !== 0 && rest.mode !== 3) {
    throw fail('mode', `expected 0 or 3, the modes of an MCP3008, got ${rest.mode}`, 'write "mode": 0')
  }
  if (simulate === 'mcp3008' && rest.lsbFirst) {
    throw fail('lsbFirst', 'expected false, the bit order of an MCP3008, got true', 'write "lsbFirst": false')
  }
  if (via === 'inherit') throw fail('via', 'expected one of broker, got "inherit"', 'write one of broker')
  return { ...rest, ...chip, via: 'broker' }
}
