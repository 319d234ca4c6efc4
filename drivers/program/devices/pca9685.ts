/**
 * A PWM and servo controller PCA9685. A chip that already runs at the frequency is not configured again, so a successor
 * takes it over without a glitch (HANDLES 12.14).
 *
 * Data sheet "PCA9685, 16-channel, 12-bit PWM Fm+ I2C-bus LED controller", revision 4 (NXP; section numbers are those
 * of the data sheet).
 */
import { pause } from '../../clock.ts'
import { HardwareError } from '../../errors.ts'
import type { I2cDevice, Pwm, Servo } from '../handle.ts'
import { degreesOf, dutyOf, type ServoScale } from '../servo.ts'
import { invalidValue, readRegister, readRegisters, writeRegister } from './registers.ts'

const MODE1 = 0x00
const LED0_ON_L = 0x06
const PRE_SCALE = 0xfe

/** 7.3.1, MODE1 */
const RESTART = 0x80
const AUTO_INCREMENT = 0x20
const SLEEP = 0x10
/** 7.3.3: bit 4 of LEDn_ON_H is full on, of LEDn_OFF_H full off. */
const FULL = 0x10
/** 7.3.5: prescale value = round(oscillator / (4096 * rate)) - 1, from 3 to 255; at 25 MHz that is 24 to 1526 Hz. */
const OSCILLATOR_HZ = 25_000_000
const STEPS = 4096
const LEAST_PRESCALE = 3
const MOST_PRESCALE = 255
/** Table 14: an external clock has at most 50 MHz. */
const MOST_OSCILLATOR_HZ = 50_000_000
/** 7.3.1.1: the oscillator needs 500 us after sleep. */
const STARTUP_MS = 0.6
const CHANNELS = 16

export interface Pca9685Options {
  /** 24 to 1526; the same for all channels. */
  frequencyHz: number
  /** The real oscillator frequency, from {@link Pca9685.oscillatorHz}. Default 25 MHz; chips differ by up to 10 %. */
  oscillatorHz?: number
  /** true: never configures the chip, whatever its frequency. Default false. */
  adopt?: boolean
}

/** The pulses and angles of one servo. */
export interface ServoCalibration {
  /** Pulses at the lower and the upper angle, and the limits of every pulse. Default 500 and 2500. */
  minUs?: number
  maxUs?: number
  /** Angles at these pulses. Default [0, 180]. */
  degrees?: readonly [lowest: number, highest: number]
  /** us that are added to every pulse, within the limits, when the horn is mounted off centre. Default 0. */
  trimUs?: number
  /** true: mounted the other way round: the upper angle has the shorter pulse. Default false. */
  reversed?: boolean
}

export class Pca9685 {
  readonly #i2c: I2cDevice
  readonly #periodNs: number

  /**
   * The oscillator frequency of a chip, from the frequency that was set and the one that an oscilloscope or a meter
   * shows. Pass the result as `oscillatorHz` for this chip. Throws RangeError for invalid frequencies.
   */
  static oscillatorHz(askedHz: number, measuredHz: number, oscillatorHz: number = OSCILLATOR_HZ): number {
    const prescale = prescaleOf(oscillatorHz, askedHz)
    if (prescale === null || !(measuredHz > 0)) {
      throw new RangeError(`expected two frequencies of a PCA9685, got ${askedHz} and ${measuredHz} Hz`)
    }
    return Math.round(measuredHz * STEPS * (prescale + 1))
  }

  /**
   * Reads two registers, and writes none when the chip is awake at this frequency. Throws errors of the handle, and
   * `other` for a frequency that the chip does not have.
   */
  constructor(i2c: I2cDevice, { frequencyHz, oscillatorHz = OSCILLATOR_HZ, adopt = false }: Pca9685Options) {
    this.#i2c = i2c
    if (!(oscillatorHz >= 1e6 && oscillatorHz <= MOST_OSCILLATOR_HZ)) {
      throw invalidValue(i2c.name, 'an oscillator of 1 to 50 MHz, as 25_000_000', oscillatorHz)
    }
    const wanted = prescaleOf(oscillatorHz, frequencyHz)
    if (wanted === null) {
      const range = frequenciesOf(oscillatorHz).join(' to ')
      throw new HardwareError('other', `${i2c.name}: expected a frequency from ${range} Hz, got ${frequencyHz}`)
    }
    const mode = readRegister(i2c, MODE1)
    const found = readRegister(i2c, PRE_SCALE)
    if (!adopt) this.#configure(mode, found, wanted)
    // a chip has at least LEAST_PRESCALE; a rehearsal reads zeros
    const prescale = adopt && found >= LEAST_PRESCALE ? found : wanted
    this.#periodNs = Math.round((((prescale + 1) * STEPS) / oscillatorHz) * 1e9)
  }

  /** 0 to 15. Several objects for one channel are the same output. */
  channel(number: number): Pwm {
    return this.#channel(number)
  }

  /**
   * A channel as a servo, in degrees, with the pulses of its calibration. Throws as `channel` does, and `other` for an
   * invalid calibration, also when the longest pulse does not fit into the period.
   */
  servo(number: number, calibration: ServoCalibration = {}): Servo {
    return new ServoChannel(this.#channel(number), calibration)
  }

  #channel(number: number): Channel {
    if (!(Number.isInteger(number) && number >= 0 && number < CHANNELS)) {
      throw new HardwareError('other', `${this.#i2c.name}: expected a channel from 0 to ${CHANNELS - 1}, got ${number}`)
    }
    return new Channel(this.#i2c, number, this.#periodNs)
  }

  #configure(mode: number, found: number, wanted: number): void {
    const awake = (mode & ~(SLEEP | RESTART)) | AUTO_INCREMENT
    if (found === wanted && (mode & SLEEP) === 0) {
      // auto-increment is needed: without it all bytes of a pulse would go into one register
      if ((mode & AUTO_INCREMENT) === 0) writeRegister(this.#i2c, MODE1, awake)
      return
    }
    // 7.3.5: the prescaler can be set in sleep only
    if (found !== wanted) {
      if ((mode & SLEEP) === 0) writeRegister(this.#i2c, MODE1, awake | SLEEP)
      writeRegister(this.#i2c, PRE_SCALE, wanted)
    }
    writeRegister(this.#i2c, MODE1, awake)
    pause(STARTUP_MS)
    // 7.3.1.1: restarts the channels that ran before the sleep
    if (readRegister(this.#i2c, MODE1) & RESTART) writeRegister(this.#i2c, MODE1, awake | RESTART)
  }
}

/** The lowest and highest frequency in whole Hz; at 25 MHz 24 and 1526, as in the data sheet. */
function frequenciesOf(oscillatorHz: number): [number, number] {
  const of = (prescale: number) => Math.ceil(oscillatorHz / (STEPS * (prescale + 1)))
  return [of(MOST_PRESCALE), of(LEAST_PRESCALE)]
}

/** null when the chip does not have this frequency. */
function prescaleOf(oscillatorHz: number, frequencyHz: number): number | null {
  const [least, most] = frequenciesOf(oscillatorHz)
  if (!(frequencyHz >= least && frequencyHz <= most)) return null
  return Math.max(LEAST_PRESCALE, Math.round(oscillatorHz / (STEPS * frequencyHz)) - 1)
}

/** The chip counts in steps, 4.9 us at 50 Hz. A pulse is rounded to the nearest step within the limits. */
class ServoChannel implements Servo {
  readonly kind = 'servo'
  readonly name: string
  readonly range: readonly [number, number]
  readonly #channel: Channel
  readonly #scale: ServoScale
  /** Limits of a pulse, in steps. */
  readonly #least: number
  readonly #most: number
  /** Part of the period. */
  readonly #trim: number
  readonly #reversed: boolean

  constructor(channel: Channel, calibration: ServoCalibration) {
    const { minUs = 500, maxUs = 2500, degrees = [0, 180], trimUs = 0, reversed = false } = calibration
    const { name, periodNs } = channel
    if (!(minUs > 0 && minUs < maxUs)) throw invalidValue(name, 'minUs below maxUs', `${minUs} and ${maxUs}`)
    if (!(degrees[0] < degrees[1])) throw invalidValue(name, 'the lower angle first', `[${degrees}]`)
    if (!(maxUs * 1000 < periodNs)) throw invalidValue(name, `a maxUs below the period (${periodNs / 1000} us)`, maxUs)
    if (!(Math.abs(trimUs) < maxUs - minUs)) throw invalidValue(name, 'a trimUs below maxUs - minUs', trimUs)
    this.name = name
    this.range = degrees
    this.#channel = channel
    this.#scale = { periodNs, pulsesNs: [minUs * 1000, maxUs * 1000], degrees }
    this.#least = Math.ceil(((minUs * 1000) / periodNs) * STEPS)
    this.#most = Math.floor(((maxUs * 1000) / periodNs) * STEPS)
    this.#trim = (trimUs * 1000) / periodNs
    this.#reversed = reversed
  }

  /** Angle of the pulse that the chip has. A channel without pulses shows the angle of the shortest one. */
  get value(): number {
    const degrees = degreesOf(this.#scale, this.#channel.value - this.#trim)
    return this.#turned(Math.min(this.range[1], Math.max(this.range[0], degrees)))
  }

  /** Angles beyond the range go to its end. */
  write(degrees: number): void {
    if (!Number.isFinite(degrees)) throw invalidValue(this.name, 'degrees', degrees)
    const duty = dutyOf(this.#scale, this.#turned(degrees)) + this.#trim
    const steps = Math.min(this.#most, Math.max(this.#least, Math.round(duty * STEPS)))
    this.#channel.write(steps / STEPS)
  }

  close(): void {
    this.#channel.close()
  }

  #turned(degrees: number): number {
    return this.#reversed ? this.range[0] + this.range[1] - degrees : degrees
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

  /** Duty cycle of the chip, also one that the previous program set; read from the chip the first time. */
  get value(): number {
    this.#value ??= this.#readDuty()
    return this.#value
  }

  /** One transfer: the chip takes the four bytes over at its end (7.3.2, OCH 0). Steps are 1/4096 of the period. */
  write(duty: number): void {
    if (!this.#open) throw new HardwareError('revoked', `${this.name}: the handle is closed`)
    // in this form the test also refuses NaN (HANDLES 6.4)
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

  #readDuty(): number {
    const [onLow = 0, onHigh = 0, offLow = 0, offHigh = 0] = readRegisters(this.#i2c, this.#register, 4)
    if (offHigh & FULL) return 0
    if (onHigh & FULL) return 1
    const on = ((onHigh & 0x0f) << 8) | onLow
    const off = ((offHigh & 0x0f) << 8) | offLow
    return ((off - on + STEPS) % STEPS) / STEPS
  }
}
