/**
 * Model of the EEPROM 24C32, after the data sheet "AT24C32, 2-wire Serial EEPROM, 32K (4096 x 8)" (Atmel 0336; its
 * section names are quoted below).
 *
 * Time is not modelled: a write cycle, 10 ms at most on the chip, lasts here for two transfers, which are not
 * acknowledged ("Acknowledge Polling"). Not modelled: write protection.
 */
import { type ChipModel, type ChipState, isWithin, NO_BYTES, type TransferResult } from './chip.ts'

const BYTES = 4096
const PAGE = 32
const CYCLE = 2

interface Eeprom24c32 {
  readonly memory: Uint8Array
  readonly pointer: number
  /** Transfers until the write cycle ends. */
  readonly busy: number
  /** Number of write cycles: each wears the memory. */
  readonly cycles: number
}

const initial: Eeprom24c32 = { memory: new Uint8Array(BYTES).fill(0xff), pointer: 0, busy: 0, cycles: 0 }

/** "Page Write": two bytes of address, high byte first; data past the end of the page wraps to its beginning. */
function write(chip: Eeprom24c32, bytes: Uint8Array): TransferResult<Eeprom24c32> {
  if (chip.busy > 0) return { next: { ...chip, busy: chip.busy - 1 }, fault: 'no-ack' }
  const [high, low, ...data] = bytes
  if (high === undefined || low === undefined) return { next: chip, bytes: NO_BYTES }
  let pointer = ((high << 8) | low) % BYTES
  if (data.length === 0) return { next: { ...chip, pointer }, bytes: NO_BYTES }
  const memory = chip.memory.slice()
  for (const byte of data) {
    memory[pointer] = byte
    pointer = pointer - (pointer % PAGE) + ((pointer + 1) % PAGE)
  }
  return { next: { memory, pointer, busy: CYCLE, cycles: chip.cycles + 1 }, bytes: NO_BYTES }
}

/** "Sequential Read": the first address follows the last. */
function read(chip: Eeprom24c32, length: number): TransferResult<Eeprom24c32> {
  if (chip.busy > 0) return { next: { ...chip, busy: chip.busy - 1 }, fault: 'no-ack' }
  const { memory, pointer } = chip
  const bytes = new Uint8Array(length)
  for (let at = 0; at < length; at++) bytes[at] = memory[(pointer + at) % BYTES] as number
  return { next: { ...chip, pointer: (pointer + length) % BYTES }, bytes }
}

function snapshot({ memory, pointer, busy, cycles }: Eeprom24c32): ChipState {
  const used = memory.findLastIndex((byte) => byte !== 0xff) + 1
  return { pointer, busy: busy > 0, cycles, used }
}

/** `memory`: the first bytes, as a list of numbers. */
function poke(chip: Eeprom24c32, what: string, value: unknown): Eeprom24c32 | null {
  if (what !== 'memory' || !Array.isArray(value) || value.length > BYTES) return null
  if (!value.every((byte) => Number.isInteger(byte) && isWithin(byte, 0, 0xff))) return null
  const memory = chip.memory.slice()
  memory.set(value)
  return { ...chip, memory }
}

export const eeprom24c32: ChipModel<Eeprom24c32> = { initial, write, read, snapshot, poke }
