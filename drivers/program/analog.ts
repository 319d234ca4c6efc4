/**
 * Invariant: one `read` is one conversion of one input, begun by this program and waited for; the chip has no state that
 * the next reader relies on (HANDLES 16).
 *
 * ADS1115, data sheet TI SBAS444E, "Config Register" and "Data Format": written with OS set, the config starts one
 * conversion; OS reads 0 until it is over. 860 samples a second, the chip's fastest, within 10 %.
 */
import { FULL_SCALES } from '../board/fullscales.ts'
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
/** Several times what a conversion takes. */
const LONGEST_MS = 10
const cell = new Int32Array(new SharedArrayBuffer(4))

export class AttachedAnalog implements Analog {
  readonly kind = 'analog'
  readonly name: string
  readonly fullScale: number
  readonly #device: I2cDevice
  readonly #start: Uint8Array
  readonly #patient: boolean

  /** `device` is the converter, at the address of the grant. */
  constructor({ name, adc }: Grant, device: I2cDevice, { rehearsal = false }: Pacing) {
    if (adc === undefined) throw new HardwareError('no-device', `${name}: the grant has no converter`)
    this.name = name
    this.fullScale = adc.fullScale
    this.#device = device
    this.#patient = !rehearsal
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
      // Taken before the look: a thread that was stopped for longer than that looks once more.
      const late = performance.now() > end
      if (this.#done()) return
      // HANDLES 12.15: a rehearsal reads zeros
      if (!this.#patient) return
      if (late) {
        throw new HardwareError('bus', `${this.name}: expected a conversion within ${LONGEST_MS} ms`)
      }
      Atomics.wait(cell, 0, 0, PAUSE_MS)
    }
  }

  #done(): boolean {
    const [config = 0] = this.#device.writeRead(this.#start.subarray(0, 1), 2)
    return (config & OS) !== 0
  }
}
