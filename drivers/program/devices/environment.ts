/**
 * A sensor for temperature, pressure and humidity, BME280. A chip that measures with these settings already is not
 * configured again (HANDLES 12.14).
 *
 * Data sheet Bosch BST-BME280-DS002, revision 1.6; section numbers are those of the data sheet.
 */
import { HardwareError } from '../../errors.ts'
import type { I2cDevice } from '../handle.ts'
import { checkIdentity, readRegisters, writeRegister } from './registers.ts'

const CALIB00 = 0x88
const CALIB00_LENGTH = 26
const CALIB26 = 0xe1
const CALIB26_LENGTH = 7
const ID = 0xd0
const CTRL_HUM = 0xf2
const CTRL_MEAS = 0xf4
const CONFIG = 0xf5
const PRESS = 0xf7
const DATA_LENGTH = 8

/** 3.5.3, "indoor navigation": oversampling of pressure 16, temperature 2, humidity 1; filter 16; 0.5 ms standby. */
const HUMIDITY = 0x01
const MEASURE = (2 << 5) | (5 << 2) | 3
const FILTER = 4 << 2
/** 5.4.7, 5.4.8: the data before the first measurement, and of a skipped one. */
const NOTHING = 0x80000
/** Bounds of a plausible temperature: table 1 with a margin. A reading of all ones lies outside. */
const LEAST_C = -45
const MOST_C = 90

export interface EnvironmentOptions {
  /** true: never configures the chip. Default false. */
  adopt?: boolean
}

export interface Climate {
  /** degrees C */
  readonly temperature: number
  /** Pa */
  readonly pressure: number
  /** %, relative */
  readonly humidity: number
}

/** A BME280, which measures about 25 times a second by itself. */
export class Environment {
  readonly #i2c: I2cDevice
  readonly #trim: Trim

  /** Throws errors of the handle, and `no-device` for another chip, such as a BMP280, whose identity is 0x58. */
  constructor(i2c: I2cDevice, { adopt = false }: EnvironmentOptions = {}) {
    this.#i2c = i2c
    checkIdentity(i2c, ID, 'BME280', 0x60)
    this.#trim = trimOf(readRegisters(i2c, CALIB00, CALIB00_LENGTH), readRegisters(i2c, CALIB26, CALIB26_LENGTH))
    const [humidity, , measure, config] = readRegisters(i2c, CTRL_HUM, 4)
    if (adopt || (humidity === HUMIDITY && measure === MEASURE && config === FILTER)) return
    // 5.4.6: config can be written in sleep only; 5.4.3: ctrl_hum takes effect with the next write to ctrl_meas
    if (measure !== 0) writeRegister(i2c, CTRL_MEAS, 0)
    writeRegister(i2c, CONFIG, FILTER)
    writeRegister(i2c, CTRL_HUM, HUMIDITY)
    writeRegister(i2c, CTRL_MEAS, MEASURE)
  }

  /**
   * The last measurement; null before the first one. It stays null after a chip has lost its supply and its settings:
   * then create a new Environment. Throws `bus` for an impossible temperature.
   */
  read(): Climate | null {
    const [p2 = 0, p1 = 0, p0 = 0, t2 = 0, t1 = 0, t0 = 0, h1 = 0, h0 = 0] = readRegisters(
      this.#i2c,
      PRESS,
      DATA_LENGTH,
    )
    const rawPressure = (p2 << 12) | (p1 << 4) | (p0 >> 4)
    const rawTemperature = (t2 << 12) | (t1 << 4) | (t0 >> 4)
    if (rawPressure === NOTHING && rawTemperature === NOTHING) return null
    const fine = fineOf(this.#trim, rawTemperature)
    const temperature = fine / 5120
    if (!(temperature > LEAST_C && temperature < MOST_C)) {
      throw new HardwareError(
        'bus',
        `${this.#i2c.name}: expected a temperature, got ${temperature.toFixed(1)} degrees C`,
      )
    }
    return {
      temperature,
      pressure: pressureOf(this.#trim, rawPressure, fine),
      humidity: humidityOf(this.#trim, (h1 << 8) | h0, fine),
    }
  }
}

/** 4.2.2, table 16; the lists begin with a dummy, so that indexes are those of the data sheet. */
interface Trim {
  readonly t: readonly number[]
  readonly p: readonly number[]
  readonly h: readonly number[]
}

function trimOf(first: Uint8Array, second: Uint8Array): Trim {
  const view = new DataView(first.buffer, first.byteOffset)
  const signed = (count: number, at: number) =>
    Array.from({ length: count }, (_, index) => view.getInt16(at + 2 * index, true))
  const [h2 = 0, h2High = 0, h3 = 0, h4 = 0, shared = 0, h5 = 0, h6 = 0] = second
  const int8 = (byte: number) => (byte << 24) >> 24
  return {
    t: [0, view.getUint16(0, true), ...signed(2, 2)],
    p: [0, view.getUint16(6, true), ...signed(8, 8)],
    h: [
      0,
      first[25] ?? 0,
      (int8(h2High) << 8) | h2,
      h3,
      (int8(h4) << 4) | (shared & 0x0f),
      (int8(h5) << 4) | (shared >> 4),
      int8(h6),
    ],
  }
}

/** Appendix 8.1: the temperature in 1/5120 degrees C, an input of the other two formulas. */
function fineOf({ t }: Trim, raw: number): number {
  const [, t1 = 0, t2 = 0, t3 = 0] = t
  const off = raw / 16_384 - t1 / 1024
  return off * t2 + (off / 8) ** 2 * t3
}

/** Appendix 8.1: Pa. */
function pressureOf({ p }: Trim, raw: number, fine: number): number {
  const [, p1 = 0, p2 = 0, p3 = 0, p4 = 0, p5 = 0, p6 = 0, p7 = 0, p8 = 0, p9 = 0] = p
  const t = fine / 2 - 64_000
  const offset = ((t * t * p6) / 32_768 + t * p5 * 2) / 4 + p4 * 65_536
  const scale = (1 + (t * t * p3) / 524_288 / 524_288 / 32_768 + (t * p2) / 524_288 / 32_768) * p1
  // only in a rehearsal, whose reads are zeros
  if (scale === 0) return 0
  const pressure = ((1_048_576 - raw - offset / 4096) * 6250) / scale
  return pressure + ((p9 * pressure * pressure) / 2 ** 31 + (pressure * p8) / 32_768 + p7) / 16
}

/** Appendix 8.1: %, from 0 to 100. */
function humidityOf({ h }: Trim, raw: number, fine: number): number {
  const [, h1 = 0, h2 = 0, h3 = 0, h4 = 0, h5 = 0, h6 = 0] = h
  const t = fine - 76_800
  const offset = h4 * 64 + (h5 / 16_384) * t
  const scale = (h2 / 65_536) * (1 + (h6 / 2 ** 26) * t * (1 + (h3 / 2 ** 26) * t))
  const humidity = (raw - offset) * scale
  return Math.min(100, Math.max(0, humidity * (1 - (h1 * humidity) / 524_288)))
}
