/**
 * Invariant: a chip that already runs at its frequency is not configured again: a successor takes it over without a
 * glitch (HANDLES 12.14).
 *
 * Data sheet "PCA9685, 16-channel, 12-bit PWM Fm+ I2C-bus LED controller", revision 4 (NXP; section numbers are its own).
 */
import { HardwareError } from '../errors.ts'
import type { I2cDevice, Pwm } from '../handle.ts'
import { readRegister, readRegisters, writeRegister } from './registers.ts'

const MODE1 = 0x00
const LED0_ON_L = 0x06
const PRE_SCALE = 0xfe

/** 7.3.1, MODE1 */
const RESTART = 0x80
const AUTO_INCREMENT = 0x20
const SLEEP = 0x10
/** 7.3.3: bit 4 of LEDn_ON_H is full on, of LEDn_OFF_H full off. */
const FULL = 0x10
/** 7.3.5: prescale value = round(25 MHz / (4096 * rate)) - 1, from 3 to 255, which are these rates */
const OSCILLATOR_HZ = 25_000_000
const STEPS = 4096
const LEAST_PRESCALE = 3
const LEAST_HZ = 24
const MOST_HZ = 1526
/** 7.3.1.1: the oscillator needs 500 us after sleep. */
const STARTUP_MS = 0.6
const CHANNELS = 16

export interface Pca9685Options {
  /** 24 to 1526; of all channels. The chip comes within 3 % of it. */
  frequencyHz: number
  /** true: takes the chip as it is, at whatever frequency, and never configures it. Default false. */
  adopt?: boolean
}

export class Pca9685 {
  readonly #i2c: I2cDevice
  readonly #periodNs: number

  /**
   * Reads two registers; writes none when the chip is awake at this frequency. Throws what the handle throws, and `other`
   * for a frequency that the chip does not have.
   */
  constructor(i2c: I2cDevice, { frequencyHz, adopt = false }: Pca9685Options) {
    this.#i2c = i2c
    if (!(frequencyHz >= LEAST_HZ && frequencyHz <= MOST_HZ)) {
      throw new HardwareError(
        'other',
        `${i2c.name}: expected a frequency from ${LEAST_HZ} to ${MOST_HZ} Hz, got ${frequencyHz}`,
      )
    }
    const wanted = Math.max(LEAST_PRESCALE, Math.round(OSCILLATOR_HZ / (STEPS * frequencyHz)) - 1)
    const mode = readRegister(i2c, MODE1)
    const found = readRegister(i2c, PRE_SCALE)
    if (!adopt) this.#configure(mode, found, wanted)
    // no chip has less, but a rehearsal reads zeros
    const prescale = adopt && found >= LEAST_PRESCALE ? found : wanted
    this.#periodNs = Math.round((((prescale + 1) * STEPS) / OSCILLATOR_HZ) * 1e9)
  }

  /** 0 to 15. Several objects for one channel are the same output. */
  channel(number: number): Pwm {
    if (!(Number.isInteger(number) && number >= 0 && number < CHANNELS)) {
      throw new HardwareError('other', `${this.#i2c.name}: expected a channel from 0 to ${CHANNELS - 1}, got ${number}`)
    }
    return new Channel(this.#i2c, number, this.#periodNs)
  }

  #configure(mode: number, found: number, wanted: number): void {
    const awake = (mode & ~(SLEEP | RESTART)) | AUTO_INCREMENT
    if (found === wanted && (mode & SLEEP) === 0) {
      // HANDLES 12.14; without auto-increment the bytes of a pulse would all go into one register
      if ((mode & AUTO_INCREMENT) === 0) writeRegister(this.#i2c, MODE1, awake)
      return
    }
    // 7.3.5: the prescaler can be set in sleep only
    if (found !== wanted) {
      if ((mode & SLEEP) === 0) writeRegister(this.#i2c, MODE1, awake | SLEEP)
      writeRegister(this.#i2c, PRE_SCALE, wanted)
    }
    writeRegister(this.#i2c, MODE1, awake)
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, STARTUP_MS)
    // 7.3.1.1: what ran before the sleep goes on
    if (readRegister(this.#i2c, MODE1) & RESTART) writeRegister(this.#i2c, MODE1, awake | RESTART)
  }
}

class Channel implements Pwm {
  readonly kind = 'pwm'
  readonly name: string
  readonly periodNs: number
  readonly #i2c: I2cDevice
  readonly #register: number
  readonly #bytes: Uint8Array
  #value: number | null = null
  #open = true

  constructor(i2c: I2cDevice, number: number, periodNs: number) {
    this.#i2c = i2c
    this.name = `${i2c.name}#${number}`
    this.periodNs = periodNs
    this.#register = LED0_ON_L + 4 * number
    this.#bytes = Uint8Array.of(this.#register, 0, 0, 0, 0)
  }

  /** What the chip has, also from before this program; read from it the first time. */
  get value(): number {
    this.#value ??= this.#present()
    return this.#value
  }

  /** One transfer: the chip takes the four bytes over at its end (7.3.2, OCH 0). Steps are 1/4096 of the period. */
  write(duty: number): void {
    if (!this.#open) throw new HardwareError('revoked', `${this.name}: the handle is closed`)
    // HANDLES 6.4: written so that NaN fails it
    if (!(duty >= 0 && duty <= 1)) {
      throw new HardwareError('other', `${this.name}: expected a duty cycle from 0 to 1, got ${duty}`)
    }
    const steps = Math.round(duty * STEPS)
    this.#bytes[2] = steps === STEPS ? FULL : 0
    this.#bytes[3] = steps & 0xff
    this.#bytes[4] = steps === 0 ? FULL : (steps >> 8) & 0x0f
    this.#i2c.write(this.#bytes)
    this.#value = duty
  }

  close(): void {
    this.#open = false
  }

  #present(): number {
    const [onLow = 0, onHigh = 0, offLow = 0, offHigh = 0] = readRegisters(this.#i2c, this.#register, 4)
    if (offHigh & FULL) return 0
    if (onHigh & FULL) return 1
    const on = ((onHigh & 0x0f) << 8) | onLow
    const off = ((offHigh & 0x0f) << 8) | offLow
    return ((off - on + STEPS) % STEPS) / STEPS
  }
}
