/**
 * An analog-to-digital converter MCP3008 or MCP3004. A reading is one message of three bytes, and the chip keeps no
 * state between readings.
 *
 * Data sheet Microchip DS21295D: figure 6-1 has the three bytes, table 5-2 the inputs, equation 4-2 the code. SPI mode
 * 0 or 3; at most 1.35 MHz at 2.7 V and 3.6 MHz at 5 V.
 */
import { HardwareError } from '../../errors.ts'
import type { SpiDevice } from '../handle.ts'

const START = 0x01
const SINGLE = 0x80
const STEPS = 1024
/** Bit of the second received byte; 0 when a chip answers. */
const NULL_BIT = 0x04

export interface Mcp3008Options {
  /** V at VREF. Default 3.3. */
  reference?: number
}

export class Mcp3008 {
  readonly #spi: SpiDevice
  /** V at VREF. */
  readonly reference: number

  /** Throws RangeError for a reference that is not above 0. */
  constructor(spi: SpiDevice, { reference = 3.3 }: Mcp3008Options = {}) {
    if (!(reference > 0)) throw new RangeError(`expected the volts at VREF, got ${reference}`)
    this.#spi = spi
    this.reference = reference
  }

  /** V at an input, 0 to 7, against ground, in steps of a 1024th of the reference. Throws as `raw` does. */
  read(channel: number): number {
    return (this.raw(channel) * this.reference) / STEPS
  }

  /**
   * 0 to 1023. Throws errors of the handle, `no-device` when no chip answers, RangeError for a channel outside 0 to 7.
   */
  raw(channel: number): number {
    return this.#convert(SINGLE | (checked(channel) << 4))
  }

  /**
   * V between two neighbours (0 and 1, 2 and 3, 4 and 5, 6 and 7); `channel` is the positive input. 0 when the other
   * input is higher.
   */
  difference(channel: number): number {
    return (this.#convert(checked(channel) << 4) * this.reference) / STEPS
  }

  #convert(control: number): number {
    const [, high = 0, low = 0] = this.#spi.transfer(Uint8Array.of(START, control, 0))
    // without a chip, or with one that is off, MISO is pulled up
    if (high & NULL_BIT) {
      throw new HardwareError('no-device', `${this.#spi.name}: expected an MCP3008, but no chip answers`)
    }
    return ((high & 3) << 8) | low
  }
}

function checked(channel: number): number {
  if (Number.isInteger(channel) && channel >= 0 && channel < 8) return channel
  throw new RangeError(`expected an input from 0 to 7, got ${channel}`)
}
