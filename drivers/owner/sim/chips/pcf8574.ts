/**
 * Model of the I/O expander PCF8574, after the data sheet "PCF8574 Remote 8-Bit I/O Expander for I2C Bus" (TI SCPS068;
 * section numbers are those of the data sheet). A pin reads low when the chip or the attached circuit pulls it down.
 *
 * Eight reflectance sensors in a row are attached, whose outputs are high over a dark line. Not modelled: the interrupt
 * output.
 */
import { type ChipModel, type ChipState, isWithin, type TransferResult } from './chip.ts'
import { written } from './registers.ts'

const PINS = 8

interface Pcf8574 {
  /** The last byte written: 0 pulls a pin down, 1 releases it. */
  readonly latch: number
  /** Levels that the sensors give the pins. */
  readonly inputs: number
}

/** 8.3.1: at power-on every pin is released. */
const initial: Pcf8574 = { latch: 0xff, inputs: 0 }

/** The sensors lie from -1 to 1, 2/7 apart. Those within 0.2 of the line see it: one or two of them. */
const HALF_LINE = 0.2
function inputsOver(line: number): number {
  let inputs = 0
  for (let pin = 0; pin < PINS; pin++) {
    if (Math.abs((2 * pin) / (PINS - 1) - 1 - line) <= HALF_LINE) inputs |= 1 << pin
  }
  return inputs
}

/** 8.1: each byte goes to the pins at once; the last one stays. */
function write(chip: Pcf8574, bytes: Uint8Array): TransferResult<Pcf8574> {
  return written({ ...chip, latch: bytes.at(-1) ?? chip.latch })
}

function read(chip: Pcf8574, length: number): TransferResult<Pcf8574> {
  return { next: chip, bytes: new Uint8Array(length).fill(chip.latch & chip.inputs) }
}

const snapshot = ({ latch, inputs }: Pcf8574): ChipState => ({ latch, inputs })

/** `inputs`: the levels of the eight pins as a number, pin 0 lowest. `line`: -1 over pin 0 to 1 over pin 7; null: none. */
function poke(chip: Pcf8574, what: string, value: unknown): Pcf8574 | null {
  if (what === 'inputs' && Number.isInteger(value) && isWithin(value, 0, 0xff)) return { ...chip, inputs: value }
  if (what === 'line' && value === null) return { ...chip, inputs: 0 }
  if (what === 'line' && isWithin(value, -2, 2)) return { ...chip, inputs: inputsOver(value) }
  return null
}

export const pcf8574: ChipModel<Pcf8574> = { initial, write, read, snapshot, poke }
