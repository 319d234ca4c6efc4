/** The pins of the 40-pin header, which is the same on every Raspberry Pi that has one. */

import { type Model, pwmChannelOf } from './models.ts'
import type { Board, BoardHandle } from './types.ts'

export interface HeaderPin {
  /** 1 to 40: odd ones are on the left when pin 1 is at the top left */
  readonly pin: number
  /** `GPIO17`, `3V3`, `5V` or `GND` */
  readonly label: string
  /** Other functions of the line, the most common first, as `I2C1 SDA`; at most 9 characters each. */
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

/** The model whose header is drawn: a simulated board is drawn as a Pi 4. null: the header is unknown. */
function headerModel(model: Model): Model | null {
  if (model === 'linux') return null
  return model === 'sim' ? 'pi4' : model
}

/** Empty for a model whose header is unknown. */
export function header(model: Model): HeaderPin[] {
  const like = headerModel(model)
  if (like === null) return []
  return PINS.map((pin, index) => {
    if (typeof pin === 'string') return { pin: index + 1, label: pin, functions: [] }
    const label = `GPIO${pin}`
    const channel = pwmChannelOf(like, label)
    const pwm = channel === undefined ? [] : [`PWM${channel.channel}`]
    return { pin: index + 1, label, functions: [...pwm, ...(FUNCTIONS[pin] ?? [])] }
  })
}

/** Header pins that the handle uses; none when it is not on the header, or its pins are unknown. */
export function pinsOf(entry: BoardHandle, model: Model): number[] {
  if (headerModel(model) === null) return []
  return linesOf(entry, model)
    .map((line) => PINS.indexOf(line) + 1)
    .filter((pin) => pin > 0)
}

/** The GPIO lines of a handle: its own line, or those of its bus. */
function linesOf(entry: BoardHandle, model: Model): number[] {
  if ('line' in entry) return [Number(entry.line.slice('GPIO'.length))]
  if (entry.kind === 'spi') return spiLines(entry.bus, entry.select)
  // the kernel owns the line of a 1-wire bus, and the board file does not name it
  if (entry.kind === 'temperature' || entry.kind === 'listen') return []
  if (entry.kind !== 'serial') return i2cLines(entry.bus)
  // on a Pi 5 serial0 is the debug connector, and ttyAMA0 is the UART of the header
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

/** Names of the handles whose bus includes the line. */
export function busUsers({ handles, model }: Board, line: string): string[] {
  const number = Number(line.slice('GPIO'.length))
  return Object.entries(handles).flatMap(([name, entry]) =>
    !('line' in entry) && linesOf(entry, model).includes(number) ? [name] : [],
  )
}
