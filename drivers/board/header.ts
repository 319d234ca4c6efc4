/** Invariant: what the pins of the 40-pin header are; the same on every Raspberry Pi that has one. Pure. */

import { type Model, pwmChannelOf } from './models.ts'
import type { Board, BoardHandle } from './types.ts'

export interface HeaderPin {
  /** 1 to 40: odd ones are on the left when pin 1 is at the top left */
  readonly pin: number
  /** `GPIO17`, `3V3`, `5V` or `GND` */
  readonly label: string
  /** What the line can be besides, the most usual first, as `I2C1 SDA`; at most 9 characters each. */
  readonly functions: readonly string[]
}

/** raspberrypi.com/documentation/computers/raspberry-pi.html, "GPIO and the 40-pin header"; numbers are BCM lines. */
const PINS: readonly (number | string)[] = [
  ...['3V3', '5V', 2, '5V', 3, 'GND', 4, 14, 'GND', 15, 17, 18, 27, 'GND', 22, 23, '3V3', 24, 10, 'GND'],
  ...[9, 25, 11, 8, 'GND', 7, 0, 1, 5, 'GND', 6, 12, 13, 'GND', 19, 16, 26, 20, 'GND', 21],
]

/** "BCM2835 ARM Peripherals", table 6-31; the RP1 has the same on these lines. */
const FUNCTIONS: Readonly<Record<number, readonly string[]>> = {
  0: ['ID SDA'],
  1: ['ID SCL'],
  2: ['I2C1 SDA'],
  3: ['I2C1 SCL'],
  4: ['GPCLK0'],
  7: ['SPI0 CE1'],
  8: ['SPI0 CE0'],
  9: ['SPI0 MISO'],
  10: ['SPI0 MOSI'],
  11: ['SPI0 SCLK'],
  14: ['UART TXD'],
  15: ['UART RXD'],
  16: ['SPI1 CE2'],
  17: ['SPI1 CE1'],
  18: ['SPI1 CE0', 'PCM CLK'],
  19: ['SPI1 MISO', 'PCM FS'],
  20: ['SPI1 MOSI', 'PCM DIN'],
  21: ['SPI1 SCLK', 'PCM DOUT'],
}

/** A simulated board is drawn as a Pi 4. Another board under Linux has whatever pins it has: null. */
function headerModel(model: Model): Model | null {
  if (model === 'linux') return null
  return model === 'sim' ? 'pi4' : model
}

/** Empty for a board whose header is not known. */
export function header(model: Model): HeaderPin[] {
  const like = headerModel(model)
  if (like === null) return []
  return PINS.map((what, index) => {
    if (typeof what === 'string') return { pin: index + 1, label: what, functions: [] }
    const label = `GPIO${what}`
    const channel = pwmChannelOf(like, label)
    const pwm = channel === undefined ? [] : [`PWM${channel.channel}`]
    return { pin: index + 1, label, functions: [...pwm, ...(FUNCTIONS[what] ?? [])] }
  })
}

/** Pins of the header that carry what this handle is; none for what is not on it, or whose pins are not known. */
export function pinsOf(entry: BoardHandle, model: Model): number[] {
  if (headerModel(model) === null) return []
  return linesOf(entry, model)
    .map((line) => PINS.indexOf(line) + 1)
    .filter((pin) => pin > 0)
}

/** The lines of the handle itself, and those of the bus it is on. */
function linesOf(entry: BoardHandle, model: Model): number[] {
  if ('line' in entry) return [Number(entry.line.slice('GPIO'.length))]
  if (entry.kind === 'spi') return spiLines(entry.bus, entry.select)
  // the kernel has a sensor's line, and the board file does not say which
  if (entry.kind === 'temperature' || entry.kind === 'listen') return []
  if (entry.kind !== 'serial') return i2cLines(entry.bus)
  // on a Pi 5 serial0 is a connector of its own, and ttyAMA0 is the header
  return entry.path === (model === 'pi5' ? '/dev/ttyAMA0' : '/dev/serial0') ? [14, 15] : []
}

function i2cLines(bus: number): number[] {
  return (
    [
      [0, 1],
      [2, 3],
    ][bus] ?? []
  )
}

function spiLines(bus: number, select: number): number[] {
  const [data, selects] = [
    [
      [10, 9, 11],
      [20, 19, 21],
    ][bus],
    [
      [8, 7],
      [18, 17, 16],
    ][bus],
  ]
  const chosen = selects?.[select]
  return data === undefined || chosen === undefined ? [] : [...data, chosen]
}

/** Which handles' buses a line belongs to, by name. */
export function busUsers({ handles, model }: Board, line: string): string[] {
  const number = Number(line.slice('GPIO'.length))
  return Object.entries(handles).flatMap(([name, entry]) =>
    !('line' in entry) && linesOf(entry, model).includes(number) ? [name] : [],
  )
}
