/**
 * Model of the distance sensor VL53L0X, as far as ranging needs it. The data sheet (ST DocID029104; section numbers are
 * its own) does not describe the registers, so the sources are also ST's API 1.0.2 (vl53l0x_device.h and
 * VL53L0X_PerformSingleRangingMeasurement) and Linux's drivers/iio/proximity/vl53l0x-i2c.c.
 *
 * Time is not modelled: a measurement, about 33 ms on the chip, is complete at the second read of the interrupt status
 * or the range's status. A read of the range alone gets it at once, for drivers that wait without reading a status.
 * Modelled: identification, single-shot and back-to-back ranging, the range's status, the pages of registers behind
 * 0xff, and the factory data of the reference SPADs, which drivers read at their start. Not modelled: calibration,
 * timing budgets, thresholds, the interrupt output, another address; these registers keep what is written.
 */
import { type ChipModel, type ChipState, isWithin, type TransferResult } from './chip.ts'
import { type Registers, readFrom, writeFrom, written } from './registers.ts'

const SYSRANGE_START = 0x00
const SYSTEM_INTERRUPT_CONFIG_GPIO = 0x0a
const SYSTEM_INTERRUPT_CLEAR = 0x0b
const RESULT_INTERRUPT_STATUS = 0x13
const RESULT_RANGE_STATUS = 0x14
const RESULT_RANGE = 0x1e
const RESULT_END = 0x20
const REGISTERS = 0x100
/** Selects the register page; the registers with names are on page 0. */
const PAGE = 0xff
/** VL53L0X_get_info_from_device: on page 7, 0x94 is an address of the memory, 0x83 its strobe, 0x90 to 0x93 its data. */
const MEMORY = { page: 7, address: 0x94, strobe: 0x83, data: 0x90 } as const
/** The strobe reads as this when the data are ready. */
const DATA_READY = 0x10
/** Factory data by address. At 0x6b the third byte is the number of reference SPADs, and bit 7: with aperture. */
const FACTORY: Readonly<Record<number, readonly number[]>> = {
  36: [0xff, 0xff, 0xff, 0xff],
  37: [0xff, 0xff, 0x00, 0x00],
  107: [0x00, 0x00, 0x80 | 5, 0x00],
}
/** VL53L0X_DataInit: drivers need it to stop ranging. Its value differs from chip to chip. */
const STOP_VARIABLE = { page: 1, address: 0x91, value: 0x3c } as const
const GLOBAL_CONFIG_SPAD_ENABLES_REF_0 = 0xb0

/** vl53l0x_device.h: bits of SYSRANGE_START. */
const START_STOP = 0x01
const BACK_TO_BACK = 0x02
const NEW_SAMPLE_READY = 0x04
/** Bits 3 to 6 are the range's status (VL53L0X_get_pal_range_status); bit 0 is set with each measurement (Linux). */
const VALID = (11 << 3) | 1
const NO_SIGNAL = (4 << 3) | 1
/** The range in mm when no light comes back, and the farthest measurable one (table 11, white target). */
const OUT_OF_RANGE = 8190
const MOST_MM = 2000

interface Vl53l0x extends Registers {
  readonly page: number
  /** Registers of the pages that were written to, except page 0. */
  readonly pages: Readonly<Record<number, Uint8Array>>
  /** mm to the target; null: nothing in sight */
  readonly distance: number | null
  readonly ranging: 'idle' | 'single' | 'continuous'
  /** Reads of the status until the measurement is complete. */
  readonly readsLeft: number
  /** Number of writes to SYSRANGE_START: a test sees here whether the chip was initialised again. */
  readonly initWrites: number
}

/** 3.2, table 4: the reference registers after a start. */
function resetRegisters(): Uint8Array {
  const registers = new Uint8Array(REGISTERS)
  registers.set([0xee, 0xaa, 0x10], 0xc0)
  registers.set([0x00, 0x99], 0x51)
  // all reference SPADs are good
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
  readsLeft: 0,
  initWrites: 0,
}

const isReadOnly = (at: number): boolean =>
  (at >= RESULT_INTERRUPT_STATUS && at < RESULT_END) || (at >= 0xc0 && at <= 0xc2)

function write(chip: Vl53l0x, bytes: Uint8Array): TransferResult<Vl53l0x> {
  let { ranging, readsLeft, initWrites, page, pages } = chip
  const next = writeFrom(chip, bytes, (registers, at, value) => {
    if (at === PAGE) page = value
    else if (page !== 0) pages = { ...pages, [page]: (pages[page] ?? new Uint8Array(REGISTERS)).with(at, value) }
    else if (at === SYSRANGE_START) {
      initWrites++
      // START_STOP stops back-to-back ranging; otherwise it starts a single measurement
      if (value & BACK_TO_BACK) ranging = 'continuous'
      else ranging = ranging !== 'continuous' && value & START_STOP ? 'single' : 'idle'
      readsLeft = 1
      registers[RESULT_INTERRUPT_STATUS] = 0
      // START_STOP clears itself once the measurement runs
      registers[at] = value & ~START_STOP
    } else if (at === SYSTEM_INTERRUPT_CLEAR) {
      if (value & 1) {
        registers[RESULT_INTERRUPT_STATUS] = 0
        readsLeft = 1
      }
    } else if (!isReadOnly(at)) registers[at] = value
    return (at + 1) % REGISTERS
  })
  return written({ ...next, ranging, readsLeft, initWrites, page, pages })
}

/** Reads a register of a page other than 0. */
function paged({ page, pages }: Vl53l0x, at: number): number {
  if (at === PAGE) return page
  const value = pages[page]?.[at] ?? 0
  if (page === STOP_VARIABLE.page && at === STOP_VARIABLE.address) return pages[page]?.[at] || STOP_VARIABLE.value
  if (page !== MEMORY.page) return value
  // drivers write 0 to the strobe, and wait until it changes
  if (at === MEMORY.strobe) return value === 0 ? DATA_READY : value
  return FACTORY[pages[page]?.[MEMORY.address] ?? 0]?.[at - MEMORY.data] ?? value
}

/** A read of a status counts towards the end of the measurement; a read of the range completes it. */
function read(chip: Vl53l0x, length: number): TransferResult<Vl53l0x> {
  if (chip.page !== 0) return readFrom(chip, length, undefined, (at) => paged(chip, at))
  const { pointer } = chip
  const isRead = (from: number, to: number): boolean => pointer < to && pointer + length > from
  const readsStatus = isRead(RESULT_INTERRUPT_STATUS, RESULT_RANGE_STATUS + 1)
  const readsRange = isRead(RESULT_RANGE, RESULT_END)
  if ((!readsStatus && !readsRange) || chip.ranging === 'idle') return readFrom(chip, length)
  if (readsStatus && chip.readsLeft > 0) return readFrom({ ...chip, readsLeft: chip.readsLeft - 1 }, length)
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

/** `distance`: mm; null, or more than 2000, means out of range. */
function poke(chip: Vl53l0x, what: string, value: unknown): Vl53l0x | null {
  if (what !== 'distance') return null
  return value === null || isWithin(value, 0, 100_000) ? { ...chip, distance: value } : null
}

export const vl53l0x: ChipModel<Vl53l0x> = { initial, write, read, snapshot, poke }
