/**
 * A line sensor: up to eight reflectance sensors with digital outputs (a QTR-8 behind comparators, or TCRT5000 modules
 * in a row) on the pins of a PCF8574 (TI SCPS068), pin 0 leftmost.
 *
 * Nothing is written to the chip: its pins are inputs after power-on (8.3.1).
 */
import type { I2cDevice } from '../handle.ts'
import { invalidValue } from './registers.ts'

export interface LineSensorOptions {
  /** Number of sensors, from pin 0 on. Default 8. */
  sensors?: number
  /** Level of a pin over the line. Default 1: a dark line on a bright floor. */
  lineLevel?: 0 | 1
}

/** A bar of reflectance sensors. */
export class LineSensor {
  readonly #i2c: I2cDevice
  readonly #sensors: number
  readonly #inverted: number

  constructor(i2c: I2cDevice, { sensors = 8, lineLevel = 1 }: LineSensorOptions = {}) {
    if (!(Number.isInteger(sensors) && sensors >= 2 && sensors <= 8)) {
      throw invalidValue(i2c.name, 'from 2 to 8 sensors', sensors)
    }
    this.#i2c = i2c
    this.#sensors = sensors
    this.#inverted = lineLevel === 1 ? 0 : 0xff
  }

  /** For each sensor, from the left, whether it is over the line. One transfer. */
  read(): boolean[] {
    const byte = (this.#i2c.read(1)[0] ?? 0) ^ this.#inverted
    return Array.from({ length: this.#sensors }, (_, pin) => ((byte >> pin) & 1) === 1)
  }

  /** Where the line is, from -1 (leftmost sensor) to 1 (rightmost); null when no sensor is over it. One transfer. */
  position(): number | null {
    let sum = 0
    let count = 0
    for (const [pin, over] of this.read().entries()) {
      if (!over) continue
      sum += (2 * pin) / (this.#sensors - 1) - 1
      count++
    }
    return count === 0 ? null : sum / count
  }
}
