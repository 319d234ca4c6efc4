/**
 * A distance sensor VL53L0X. A chip that ranges already is not started again (HANDLES 12.14).
 *
 * The data sheet (ST DocID029104) does not describe the registers; their names here are those of ST's API 1.0.2. The
 * chip's default settings are kept, as in Linux's drivers/iio/proximity/vl53l0x-i2c.c: about 30 measurements a second,
 * up to 1.2 m.
 */
import type { I2cDevice } from '../handle.ts'
import { checkIdentity, readRegister, readRegisters, writeRegister } from './registers.ts'

const SYSRANGE_START = 0x00
const SYSTEM_INTERRUPT_CONFIG_GPIO = 0x0a
const SYSTEM_INTERRUPT_CLEAR = 0x0b
const RESULT_INTERRUPT_STATUS = 0x13
const IDENTIFICATION_MODEL_ID = 0xc0

const BACK_TO_BACK = 0x02
const NEW_SAMPLE_READY = 0x04
/** Bytes from RESULT_INTERRUPT_STATUS on: the range's status is byte 1 (bits 3 to 6), the range in mm is at 11. */
const RESULT_LENGTH = 13
/** VL53L0X_get_pal_range_status: the status of a valid range. */
const RANGE_VALID = 11
/** Time without a measurement after which the chip is started again; one takes about 33 ms. */
const SILENCE_SECONDS = 0.5

export interface DistanceOptions {
  /** true: never starts the chip. Default false. */
  adopt?: boolean
}

/** A VL53L0X, which measures continuously by itself. */
export class Distance {
  readonly #i2c: I2cDevice
  readonly #adopt: boolean
  #mm: number | null = null
  #silence = 0

  /** Throws errors of the handle, and `no-device` when another chip has this address. */
  constructor(i2c: I2cDevice, { adopt = false }: DistanceOptions = {}) {
    this.#i2c = i2c
    this.#adopt = adopt
    checkIdentity(i2c, IDENTIFICATION_MODEL_ID, 'VL53L0X', 0xee)
    if (!adopt && readRegister(i2c, SYSTEM_INTERRUPT_CONFIG_GPIO) !== NEW_SAMPLE_READY) this.#start()
  }

  /** mm, from the last measurement; null when nothing is in range, and before the first measurement. */
  get mm(): number | null {
    return this.#mm
  }

  get cm(): number | null {
    return this.#mm === null ? null : this.#mm / 10
  }

  /**
   * Fetches a new measurement; false when there is none. `dt`: seconds since the last call. A chip without measurements
   * for 0.5 s, as after a loss of its supply, is started again, and `mm` is null until it measures.
   */
  tick(dt: number): boolean {
    const result = readRegisters(this.#i2c, RESULT_INTERRUPT_STATUS, RESULT_LENGTH)
    if (((result[0] ?? 0) & 7) !== NEW_SAMPLE_READY) {
      this.#silence += dt
      if (this.#silence < SILENCE_SECONDS) return false
      this.#mm = null
      this.#silence = 0
      if (!this.#adopt) this.#start()
      return false
    }
    writeRegister(this.#i2c, SYSTEM_INTERRUPT_CLEAR, 1)
    this.#silence = 0
    const valid = (((result[1] ?? 0) >> 3) & 15) === RANGE_VALID
    this.#mm = valid ? ((result[11] ?? 0) << 8) | (result[12] ?? 0) : null
    return true
  }

  #start(): void {
    writeRegister(this.#i2c, SYSTEM_INTERRUPT_CONFIG_GPIO, NEW_SAMPLE_READY)
    writeRegister(this.#i2c, SYSTEM_INTERRUPT_CLEAR, 1)
    writeRegister(this.#i2c, SYSRANGE_START, BACK_TO_BACK)
  }
}
