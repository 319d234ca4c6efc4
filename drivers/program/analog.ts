/**
 * Analog inputs: each `read` starts a conversion of its input, waits for it and reads the result. It relies on no state
 * that an earlier reader left in the chip (HANDLES 16).
 *
 * ADS1115, data sheet TI SBAS444E, "Config Register" and "Data Format": writing the config with OS set starts one
 * conversion, and OS reads 0 until it is complete. 860 samples a second, within 10 %, is the chip's fastest rate.
 */
import { FULL_SCALES } from '../board/fullscales.ts'
import { pause } from '../clock.ts'
import { HardwareError } from '../errors.ts'
import type { Pacing } from './attached.ts'
import type { Analog, Grant, I2cDevice } from './handle.ts'

const CONVERSION = Uint8Array.of(0)
const CONFIG = 1
const OS = 0x80
/** MUX 4 to 7: inputs 0 to 3 against ground. */
const GROUNDED = 4
/** MODE single-shot; PGA in bits 3 to 1 of the upper byte. */
const SINGLE_SHOT = 0x01
/** DR 860 a second, comparator off. */
const FASTEST = 0xe3

const PAUSE_MS = 0.25
/** Several times the duration of a conversion. */
const LONGEST_MS = 10

export class AttachedAnalog implements Analog {
  readonly kind = 'analog'
  readonly name: string
  readonly fullScale: number
  readonly #device: I2cDevice
  readonly #start: Uint8Array
  readonly #waits: boolean

  /** `device` is the converter, at the address of the grant. */
  constructor({ name, adc }: Grant, device: I2cDevice, { rehearsal = false }: Pacing) {
    if (adc === undefined) throw new HardwareError('no-device', `${name}: the grant has no converter`)
    this.name = name
    this.fullScale = adc.fullScale
    this.#device = device
    this.#waits = !rehearsal
    const gain = (FULL_SCALES as readonly number[]).indexOf(adc.fullScale)
    const upper = OS | ((GROUNDED + adc.channel) << 4) | (gain << 1) | SINGLE_SHOT
    this.#start = Uint8Array.of(CONFIG, upper, FASTEST)
  }

  read(): number {
    this.#device.write(this.#start)
    this.#await()
    const [high = 0, low = 0] = this.#device.writeRead(CONVERSION, 2)
    // two's complement, 2^15 steps to full scale
    return ((((high << 8) | low) << 16) >> 16) * (this.fullScale / 0x8000)
  }

  close(): void {
    this.#device.close()
  }

  #await(): void {
    const end = performance.now() + LONGEST_MS
    for (;;) {
      // Checked before reading the chip: a thread that was stopped for longer than the limit still reads it once.
      const late = performance.now() > end
      if (this.#done()) return
      // in a rehearsal every read is zeros, so the conversion would never end (HANDLES 12.15)
      if (!this.#waits) return
      if (late) {
        throw new HardwareError('bus', `${this.name}: expected a conversion within ${LONGEST_MS} ms`)
      }
      pause(PAUSE_MS)
    }
  }

  #done(): boolean {
    const [config = 0] = this.#device.writeRead(this.#start.subarray(0, 1), 2)
    return (config & OS) !== 0
  }
}
