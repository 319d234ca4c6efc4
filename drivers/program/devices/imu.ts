/**
 * A motion sensor MPU6050. A chip that is awake with these settings is not configured again (HANDLES 12.14).
 *
 * "MPU-6000 and MPU-6050 Register Map and Descriptions", revision 4.2 (RM-MPU-6000A; section numbers are those of the
 * document).
 */
import { HardwareError } from '../../errors.ts'
import type { I2cDevice } from '../handle.ts'
import { checkIdentity, invalidValue, readRegister, readRegisters, writeRegister } from './registers.ts'

/** The next two registers configure the gyroscope and the accelerometer. */
const CONFIG = 0x1a
const ACCEL_XOUT_H = 0x3b
const PWR_MGMT_1 = 0x6b
const WHO_AM_I = 0x75

/** 4.28: awake, with the clock of the x gyroscope, which the section recommends over the internal one. */
const AWAKE = 0x01
/** 4.4 and 4.19: the ranges of the gyroscope, and steps for one degree/s in each. */
const GYRO_RANGES = [250, 500, 1000, 2000] as const
const GYRO_STEPS = [131, 65.5, 32.8, 16.4] as const
/** 4.5 and 4.17: the ranges of the accelerometer, and steps for one g in each. */
const ACCEL_RANGES = [2, 4, 8, 16] as const
const ACCEL_STEPS = [16_384, 8192, 4096, 2048] as const
/** 4.3: bandwidth of the accelerometer for DLPF_CFG 0 to 6; that of the gyroscope is about the same. */
const FILTERS_HZ = [260, 184, 94, 44, 21, 10, 5] as const

export interface Vector {
  readonly x: number
  readonly y: number
  readonly z: number
}

export interface ImuOptions {
  /** g. Default 2. */
  accelRange?: (typeof ACCEL_RANGES)[number]
  /** degrees/s. Default 250. */
  gyroRange?: (typeof GYRO_RANGES)[number]
  /** Low pass of the chip. Default 44: its delay is 5 ms. */
  filterHz?: (typeof FILTERS_HZ)[number]
  /**
   * Time constant in seconds with which pitch and roll follow gravity instead of the gyroscope. Default 0.5. More is
   * steadier, and corrects the gyroscope's drift more slowly.
   */
  settleSeconds?: number
  /**
   * Degrees to start from, for example the previous program's. Absent or null: the first tick takes them from gravity.
   */
  pitch?: number | null
  roll?: number | null
  /** true: never configures the chip, and uses the ranges that it has. Default false. */
  adopt?: boolean
}

const ZERO: Vector = { x: 0, y: 0, z: 0 }

/**
 * An MPU6050: accelerometer, gyroscope and thermometer, and from these pitch and roll. At rest and level, z is 1 g. Pitch
 * turns about y, roll about x, each by the right hand; nose up (x up) is a negative pitch.
 */
export class Imu {
  readonly #i2c: I2cDevice
  readonly #settle: number
  readonly #accelScale: number
  readonly #gyroScale: number
  #accel = ZERO
  #gyro = ZERO
  #temperature = 0
  #pitch: number | null
  #roll: number | null

  /**
   * Throws errors of the handle, `no-device` for another chip, and `other` for settings that the chip does not have.
   */
  constructor(i2c: I2cDevice, options: ImuOptions = {}) {
    const { accelRange = 2, gyroRange = 250, filterHz = 44, settleSeconds = 0.5, adopt = false } = options
    this.#i2c = i2c
    this.#settle = settleSeconds
    this.#pitch = options.pitch ?? null
    this.#roll = options.roll ?? null
    const index = (list: readonly number[], value: number, what: string): number => {
      if (list.includes(value)) return list.indexOf(value)
      throw invalidValue(i2c.name, `${what} of ${list.join(', ')}`, value)
    }
    const wanted = [
      index(FILTERS_HZ, filterHz, 'a filter'),
      index(GYRO_RANGES, gyroRange, 'a range of the gyroscope') << 3,
      index(ACCEL_RANGES, accelRange, 'a range of the accelerometer') << 3,
    ]
    checkIdentity(i2c, WHO_AM_I, 'MPU6050', 0x68)
    const found = readRegisters(i2c, CONFIG, wanted.length)
    if (!adopt) {
      if (readRegister(i2c, PWR_MGMT_1) !== AWAKE) writeRegister(i2c, PWR_MGMT_1, AWAKE)
      for (const [at, value] of wanted.entries()) {
        if (found[at] !== value) writeRegister(i2c, CONFIG + at, value)
      }
    }
    const [, gyroConfig = 0, accelConfig = 0] = adopt ? found : wanted
    this.#gyroScale = 1 / (GYRO_STEPS[(gyroConfig >> 3) & 3] as number)
    this.#accelScale = 1 / (ACCEL_STEPS[(accelConfig >> 3) & 3] as number)
  }

  /** g, at the last tick. */
  get accel(): Vector {
    return this.#accel
  }

  /** degrees/s, at the last tick. */
  get gyro(): Vector {
    return this.#gyro
  }

  /** Temperature of the chip in degrees C, at the last tick. */
  get temperature(): number {
    return this.#temperature
  }

  /** Degrees about y. */
  get pitch(): number {
    return this.#pitch ?? 0
  }

  /** Degrees about x. */
  get roll(): number {
    return this.#roll ?? 0
  }

  /**
   * Reads all measurements in one transfer and updates pitch and roll. `dt`: seconds since the last call, as in
   * `every(5, (dt) => { imu.tick(dt); … })`. Pitch and roll are exact while the robot turns about one axis at a time,
   * as when it stands or balances. Throws `bus` when all bits read are ones; pitch and roll stay as they were.
   */
  tick(dt: number): void {
    const bytes = readRegisters(this.#i2c, ACCEL_XOUT_H, 14)
    if (bytes.every((byte) => byte === 0xff)) {
      throw new HardwareError('bus', `${this.#i2c.name}: expected a measurement, got nothing but ones`)
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset)
    const vector = (at: number, scale: number): Vector => ({
      x: view.getInt16(at) * scale,
      y: view.getInt16(at + 2) * scale,
      z: view.getInt16(at + 4) * scale,
    })
    const accel = vector(0, this.#accelScale)
    const gyro = vector(8, this.#gyroScale)
    this.#accel = accel
    this.#gyro = gyro
    // 4.18: degrees C = TEMP_OUT / 340 + 36.53
    this.#temperature = view.getInt16(6) / 340 + 36.53
    this.#pitch = this.#mixed(this.#pitch, gyro.y * dt, degreesOf(-accel.x, Math.hypot(accel.y, accel.z)), dt)
    this.#roll = this.#mixed(this.#roll, gyro.x * dt, degreesOf(accel.y, accel.z), dt)
  }

  /** Complementary filter: fast changes from the gyroscope, slow ones from gravity, the short way round the circle. */
  #mixed(angle: number | null, turned: number, gravity: number, dt: number): number {
    if (angle === null) return gravity
    const predicted = angle + turned
    const off = wrapped(gravity - predicted)
    return wrapped(predicted + off * (dt / (this.#settle + dt || 1)))
  }
}

const degreesOf = (y: number, x: number): number => (Math.atan2(y, x) * 180) / Math.PI

/** -180 to 180 */
const wrapped = (degrees: number): number => degrees - 360 * Math.round(degrees / 360)
