/**
 * Model of the environment sensor BME280, after its data sheet (Bosch BST-BME280-DS002, revision 1.6; section numbers
 * are those of the data sheet).
 *
 * The data registers hold the raw values that the data sheet's compensation formulas turn into the sensed ones.
 *
 * Modelled: the trimming parameters, oversampling and its resolution, sleep, forced and normal mode, reset. Not modelled:
 * the time of a measurement and the filter (data is always the newest), noise, SPI.
 */
import { type ChipModel, type ChipState, isWithin, NO_BYTES, type TransferResult } from './chip.ts'
import { type Registers, readFrom } from './registers.ts'

const CHIP_ID = 0x60
const CALIB00 = 0x88
const CALIB26 = 0xe1
const ID = 0xd0
const RESET = 0xe0
const CTRL_HUM = 0xf2
const CTRL_MEAS = 0xf4
const CONFIG = 0xf5
const PRESS = 0xf7
const TEMP = 0xfa
const HUM = 0xfd
const REGISTERS = 0x100
const RESET_WORD = 0xb6
const NORMAL = 3

/**
 * Trimming parameters (4.2.2, table 16). Those of temperature and pressure are from Bosch's worked example (BMP280 data
 * sheet, 3.12: 519888 is 25.08 degrees C, and then 415148 is 100653 Pa).
 */
const T = [27504, 26435, -1000] as const
const P = [36477n, -10685n, 3024n, 2855n, 140n, -7n, 15500n, -14600n, 6000n] as const
const H = [75, 362, 0, 313, 50, 30] as const

interface Bme280 extends Registers {
  /** degrees C */
  readonly temperature: number
  /** Pa */
  readonly pressure: number
  /** % */
  readonly humidity: number
  /** The ctrl_hum in effect: a write takes effect with the next write to ctrl_meas (5.4.3). */
  readonly ctrlHum: number
  /** Number of resets and writes to control registers: a test sees here whether the chip was initialised again. */
  readonly initWrites: number
}

/** 4.2.3, in 32 bits: temperature in 1/5120 degrees C, the unit that the other formulas take. */
function fineOf(raw: number): number {
  const coarse = (((raw >> 3) - (T[0] << 1)) * T[1]) >> 11
  const square = (((raw >> 4) - T[0]) ** 2) >> 12
  return coarse + ((square * T[2]) >> 14)
}

/** 4.2.3, in 64 bits: 1/256 Pa. */
function pressureOf(raw: number, fine: number): number {
  const t = BigInt(fine) - 128000n
  const offset = t * t * P[5] + ((t * P[4]) << 17n) + (P[3] << 35n)
  const scale = (((1n << 47n) + ((t * t * P[2]) >> 8n) + ((t * P[1]) << 12n)) * P[0]) >> 33n
  const p = (((BigInt(1048576 - raw) << 31n) - offset) * 3125n) / scale
  const bend = (P[8] * (p >> 13n) * (p >> 13n)) >> 25n
  return Number(((p + bend + ((P[7] * p) >> 19n)) >> 8n) + (P[6] << 4n))
}

/** 4.2.3, in 32 bits: 1/1024 %, times 4096. */
function humidityOf(raw: number, fine: number): number {
  const t = fine - 76800
  const offset = ((raw << 14) - (H[3] << 20) - H[4] * t + 16384) >> 15
  const warm = ((((t * H[5]) >> 10) * (((t * H[2]) >> 11) + 32768)) >> 10) + 2097152
  const v = offset * ((warm * H[1] + 8192) >> 14)
  return v - (((((v >> 15) * (v >> 15)) >> 7) * H[0]) >> 4)
}

/** Inverts `formula`, which is monotonic: the raw value of `bits` bits whose result is nearest to `wanted`. */
function rawOf(formula: (raw: number) => number, wanted: number, bits: number): number {
  let [low, high] = [0, 2 ** bits - 1]
  const rises = formula(high) > formula(0)
  while (low < high) {
    const middle = (low + high) >> 1
    if (formula(middle) < wanted === rises) low = middle + 1
    else high = middle
  }
  return low
}

function put16(view: DataView, at: number, values: readonly (number | bigint)[]): void {
  for (const [index, value] of values.entries()) view.setInt16(at + 2 * index, Number(value), true)
}

/** Registers after a reset (5.3, table 18). No measurement reads 0x80000, for humidity 0x8000 (5.4.7 to 5.4.9). */
function resetRegisters(): Uint8Array {
  const registers = new Uint8Array(REGISTERS)
  const view = new DataView(registers.buffer)
  put16(view, CALIB00, [...T, ...P])
  const [h1, h2, h3, h4, h5, h6] = H
  registers[0xa1] = h1
  registers.set([h2 & 0xff, h2 >> 8, h3, h4 >> 4, (h4 & 0x0f) | ((h5 & 0x0f) << 4), h5 >> 4, h6], CALIB26)
  registers[ID] = CHIP_ID
  for (const at of [PRESS, TEMP, HUM]) registers[at] = 0x80
  return registers
}

const initial: Bme280 = {
  registers: resetRegisters(),
  pointer: 0,
  temperature: 20,
  pressure: 101_325,
  humidity: 50,
  ctrlHum: 0,
  initWrites: 0,
}

/** 3.4: 16 bits, one more for each doubling of the oversampling, 20 with the filter. Oversampling 0: not measured. */
function put20(registers: Uint8Array, at: number, raw: number, oversampling: number, filter: boolean): void {
  const bits = filter ? 20 : Math.min(20, 15 + oversampling)
  const value = oversampling === 0 ? 0x80000 : raw & (0xfffff << (20 - bits))
  registers.set([value >> 12, (value >> 4) & 0xff, (value << 4) & 0xf0], at)
}

/** Measures everything that the control registers do not switch off (5.4.3, 5.4.5). */
function measured(chip: Bme280): Bme280 {
  const registers = chip.registers.slice()
  const meas = registers[CTRL_MEAS] as number
  const filter = ((registers[CONFIG] as number) & 0x1c) !== 0
  const temperature = rawOf(fineOf, chip.temperature * 5120, 20)
  const fine = fineOf(temperature)
  put20(registers, TEMP, temperature, meas >> 5, filter)
  put20(
    registers,
    PRESS,
    rawOf((raw) => pressureOf(raw, fine), chip.pressure * 256, 20),
    (meas >> 2) & 7,
    filter,
  )
  const humidity = rawOf((raw) => humidityOf(raw, fine), chip.humidity * 1024 * 4096, 16)
  const shown = chip.ctrlHum === 0 ? 0x8000 : humidity
  registers.set([shown >> 8, shown & 0xff], HUM)
  return { ...chip, registers }
}

/** 6.2.1: a write is pairs of a register and its value. */
function write(chip: Bme280, bytes: Uint8Array): TransferResult<Bme280> {
  let next = chip
  for (let at = 0; at + 1 < bytes.length; at += 2) next = control(next, bytes[at] as number, bytes[at + 1] as number)
  return { next: { ...next, pointer: bytes.at(bytes.length % 2 === 0 ? -2 : -1) ?? chip.pointer }, bytes: NO_BYTES }
}

function control(chip: Bme280, at: number, value: number): Bme280 {
  const initWrites = chip.initWrites + 1
  if (at === RESET && value === RESET_WORD) return { ...chip, registers: resetRegisters(), ctrlHum: 0, initWrites }
  if (at !== CTRL_HUM && at !== CTRL_MEAS && at !== CONFIG) return chip
  const registers = chip.registers.slice()
  registers[at] = value
  const next = { ...chip, registers, initWrites }
  if (at !== CTRL_MEAS) return next
  const done = { ...next, ctrlHum: (registers[CTRL_HUM] as number) & 7 }
  const mode = value & 3
  if (mode === 0) return done
  const after = measured(done)
  // 3.3.3: after a forced measurement the chip sleeps
  if (mode !== NORMAL) after.registers[CTRL_MEAS] = value & ~3
  return after
}

function snapshot({ temperature, pressure, humidity, initWrites, registers }: Bme280): ChipState {
  return { asleep: ((registers[CTRL_MEAS] as number) & 3) === 0, temperature, pressure, humidity, initWrites }
}

/** Measuring ranges (table 1). */
const RANGES: Record<string, readonly [number, number]> = {
  temperature: [-40, 85],
  pressure: [30_000, 110_000],
  humidity: [0, 100],
}

/** `temperature` in degrees C, -40 to 85; `pressure` in Pa, 30 000 to 110 000; `humidity` in %. */
function poke(chip: Bme280, what: string, value: unknown): Bme280 | null {
  const range = RANGES[what]
  if (range === undefined || !isWithin(value, ...range)) return null
  const next = { ...chip, [what]: value }
  return ((chip.registers[CTRL_MEAS] as number) & 3) === NORMAL ? measured(next) : next
}

export const bme280: ChipModel<Bme280> = {
  initial,
  write,
  read: (chip, length) => readFrom(chip, length),
  snapshot,
  poke,
}
