/**
 * Invariant: the registers that ranging needs read as on the chip, by the data sheet "VL53L0X" (ST DocID029104; section
 * numbers are its own) and, since that leaves the registers to ST's software, by ST's API 1.0.2 (vl53l0x_device.h and
 * VL53L0X_PerformSingleRangingMeasurement) and by Linux's drivers/iio/proximity/vl53l0x-i2c.c.
 *
 * Time is not modelled: a measurement, which takes about 33 ms, is there at the second look at the interrupt status or the
 * range's status, and at once for who reads the range without a look, as drivers do that have waited.
 * Modelled: identification, single-shot and back-to-back ranging, the range's status, the pages of registers behind 0xff,
 * and the factory's data of the reference SPADs, which drivers read there at their start. Not modelled: calibration, timing
 * budgets, thresholds, the interrupt output, another address; these registers keep what is written.
 */
import { type ChipModel, type ChipState, isWithin, type Step } from './chip.ts'
import { type Registers, readFrom, writeFrom, written } from './registers.ts'

const SYSRANGE_START = 0x00
const SYSTEM_INTERRUPT_CONFIG_GPIO = 0x0a
const SYSTEM_INTERRUPT_CLEAR = 0x0b
const RESULT_INTERRUPT_STATUS = 0x13
const RESULT_RANGE_STATUS = 0x14
const RESULT_RANGE = 0x1e
const RESULT_END = 0x20
const REGISTERS = 0x100
/** Selects the page that all other addresses are in; 0 has the registers with names. */
const PAGE = 0xff
/** VL53L0X_get_info_from_device: on page 7, 0x94 is an address of the memory, 0x83 its strobe, 0x90 to 0x93 its data. */
const MEMORY = { page: 7, address: 0x94, strobe: 0x83, data: 0x90 } as const
/** What the strobe reads as when the data are there. */
const DATA_READY = 0x10
/** By its address; at 0x6b the third byte has the count of reference SPADs, and bit 7: they have an aperture. */
const FACTORY: Readonly<Record<number, readonly number[]>> = {
  36: [0xff, 0xff, 0xff, 0xff],
  37: [0xff, 0xff, 0x00, 0x00],
  107: [0x00, 0x00, 0x80 | 5, 0x00],
}
/** VL53L0X_DataInit: of page 1; without it ranging does not stop. Its value differs from chip to chip. */
const STOP_VARIABLE = { page: 1, address: 0x91, value: 0x3c } as const
const GLOBAL_CONFIG_SPAD_ENABLES_REF_0 = 0xb0

/** vl53l0x_device.h: bits of SYSRANGE_START. */
const START_STOP = 0x01
const BACK_TO_BACK = 0x02
const NEW_SAMPLE_READY = 0x04
/** VL53L0X_get_pal_range_status: bits 3 to 6 of the range's status. */
/** Linux: bit 0 is set once the measurement is complete. */
const VALID = (11 << 3) | 1
const NO_SIGNAL = (4 << 3) | 1
/** What the range is when nothing comes back, and how far the chip sees (table 11, white target). */
const OUT_OF_RANGE = 8190
const MOST_MM = 2000

interface Vl53l0x extends Registers {
  readonly page: number
  /** Registers of the pages that were written to, but for page 0. */
  readonly pages: Readonly<Record<number, Uint8Array>>
  /** mm to the target; null: nothing in sight */
  readonly distance: number | null
  readonly ranging: 'idle' | 'single' | 'continuous'
  /** Looks at the status until the measurement is there; 0: it is. */
  readonly looks: number
  /** Starts of ranging: each one is an initialisation. */
  readonly initWrites: number
}

/** 3.2, table 4: what the reference registers read after a start. */
function resetRegisters(): Uint8Array {
  const registers = new Uint8Array(REGISTERS)
  registers.set([0xee, 0xaa, 0x10], 0xc0)
  registers.set([0x00, 0x99], 0x51)
  // all of its reference SPADs are good
  registers.fill(0xff, GLOBAL_CONFIG_SPAD_ENABLES_REF_0, GLOBAL_CONFIG_SPAD_ENABLES_REF_0 + 6)
  return registers
}

const initial: Vl53l0x = {
  registers: resetRegisters(),
  pointer: 0,
  page: 0,
  pages: {},
  distance: 200,
  ranging: 'idle',
  looks: 0,
  initWrites: 0,
}

const isReadOnly = (at: number): boolean =>
  (at >= RESULT_INTERRUPT_STATUS && at < RESULT_END) || (at >= 0xc0 && at <= 0xc2)

function write(chip: Vl53l0x, bytes: Uint8Array): Step<Vl53l0x> {
  let { ranging, looks, initWrites, page, pages } = chip
  const next = writeFrom(chip, bytes, (registers, at, value) => {
    if (at === PAGE) page = value
    else if (page !== 0) pages = { ...pages, [page]: (pages[page] ?? new Uint8Array(REGISTERS)).with(at, value) }
    else if (at === SYSRANGE_START) {
      initWrites++
      // the first bit stops back-to-back ranging, else it starts one measurement
      if (value & BACK_TO_BACK) ranging = 'continuous'
      else ranging = ranging !== 'continuous' && value & START_STOP ? 'single' : 'idle'
      looks = 1
      registers[RESULT_INTERRUPT_STATUS] = 0
      // the bit clears itself once the measurement runs
      registers[at] = value & ~START_STOP
    } else if (at === SYSTEM_INTERRUPT_CLEAR) {
      if (value & 1) {
        registers[RESULT_INTERRUPT_STATUS] = 0
        looks = 1
      }
    } else if (!isReadOnly(at)) registers[at] = value
    return (at + 1) % REGISTERS
  })
  return written({ ...next, ranging, looks, initWrites, page, pages })
}

/** Of a page other than 0. */
function paged({ page, pages }: Vl53l0x, at: number): number {
  if (at === PAGE) return page
  const value = pages[page]?.[at] ?? 0
  if (page === STOP_VARIABLE.page && at === STOP_VARIABLE.address) return pages[page]?.[at] || STOP_VARIABLE.value
  if (page !== MEMORY.page) return value
  // the strobe is written as 0, and waited for
  if (at === MEMORY.strobe) return value === 0 ? DATA_READY : value
  return FACTORY[pages[page]?.[MEMORY.address] ?? 0]?.[at - MEMORY.data] ?? value
}

/** A look at a status finds the measurement once it is due, one at the range always. */
function read(chip: Vl53l0x, length: number): Step<Vl53l0x> {
  if (chip.page !== 0) return readFrom(chip, length, undefined, (at) => paged(chip, at))
  const { pointer } = chip
  const isRead = (from: number, to: number): boolean => pointer < to && pointer + length > from
  const looks = isRead(RESULT_INTERRUPT_STATUS, RESULT_RANGE_STATUS + 1)
  const ranges = isRead(RESULT_RANGE, RESULT_END)
  if ((!looks && !ranges) || chip.ranging === 'idle') return readFrom(chip, length)
  if (looks && chip.looks > 0) return readFrom({ ...chip, looks: chip.looks - 1 }, length)
  return readFrom(measured(chip), length)
}

function measured(chip: Vl53l0x): Vl53l0x {
  const registers = chip.registers.slice()
  if (registers[RESULT_INTERRUPT_STATUS] !== 0) return chip
  const seen = chip.distance !== null && chip.distance <= MOST_MM
  registers[RESULT_INTERRUPT_STATUS] = registers[SYSTEM_INTERRUPT_CONFIG_GPIO] === 0 ? 0 : NEW_SAMPLE_READY
  registers[RESULT_RANGE_STATUS] = seen ? VALID : NO_SIGNAL
  new DataView(registers.buffer).setUint16(RESULT_RANGE, seen ? Math.round(chip.distance as number) : OUT_OF_RANGE)
  return { ...chip, registers, ranging: chip.ranging === 'single' ? 'idle' : chip.ranging }
}

const snapshot = ({ distance, ranging, initWrites }: Vl53l0x): ChipState => ({ distance, ranging, initWrites })

/** `distance`: mm; null, or more than 2000, is out of range. */
function poke(chip: Vl53l0x, what: string, value: unknown): Vl53l0x | null {
  if (what !== 'distance') return null
  return value === null || isWithin(value, 0, 100_000) ? { ...chip, distance: value } : null
}

export const vl53l0x: ChipModel<Vl53l0x> = { initial, write, read, snapshot, poke }
