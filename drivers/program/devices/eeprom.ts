/**
 * An EEPROM 24C32 ("AT24C32", Atmel 0336; its section names are quoted below) or a relative with addresses of two
 * bytes, up to 24C512.
 *
 * Only pages whose bytes differ are written, as each write wears the memory. No write crosses a page.
 */
import { pause } from '../../clock.ts'
import { HardwareError } from '../../errors.ts'
import type { I2cDevice } from '../handle.ts'
import { invalidValue } from './registers.ts'

/** "Write Cycle Timing": the chip does not answer for at most 10 ms after a write. */
const CYCLE_MS = 12

export interface EepromOptions {
  /** Default 4096, a 24C32. */
  bytes?: number
  /** Default 32. */
  pageBytes?: number
}

/** A 24C32 or relative: memory that keeps its bytes without power. */
export class Eeprom {
  readonly #i2c: I2cDevice
  readonly #pageBytes: number
  readonly bytes: number

  constructor(i2c: I2cDevice, { bytes = 4096, pageBytes = 32 }: EepromOptions = {}) {
    this.#i2c = i2c
    this.#pageBytes = pageBytes
    this.bytes = bytes
  }

  /** Throws `other` for bytes beyond the end. Waits for a write cycle to end, up to 12 ms. */
  read(at: number, length: number): Uint8Array {
    this.#check(at, length)
    const got = new Uint8Array(length)
    for (let from = 0; from < length; from += this.#pageBytes) {
      const part = Math.min(this.#pageBytes, length - from)
      got.set(
        this.#answered(() => this.#i2c.writeRead(addressOf(at + from), part)),
        from,
      )
    }
    return got
  }

  /**
   * Writes the pages that differ. Each takes the chip about 5 ms, for which the next access waits, but not this call
   * after its last page. The chip completes a write even if the program ends meanwhile.
   */
  write(at: number, bytes: Uint8Array): void {
    this.#check(at, bytes.length)
    for (let from = 0; from < bytes.length; ) {
      const start = at + from
      const part = bytes.subarray(from, from + this.#pageBytes - (start % this.#pageBytes))
      from += part.length
      const present = this.read(start, part.length)
      if (part.every((byte, index) => byte === present[index])) continue
      this.#answered(() => this.#i2c.write(Uint8Array.of(...addressOf(start), ...part)))
    }
  }

  /** "Acknowledge Polling": repeats the call until the chip answers. */
  #answered<T>(call: () => T): T {
    for (let waited = 0; ; waited++) {
      try {
        return call()
      } catch (error) {
        if (!(error instanceof HardwareError && error.kind === 'no-ack') || waited === CYCLE_MS) throw error
        pause(1)
      }
    }
  }

  #check(at: number, length: number): void {
    if (Number.isInteger(at) && Number.isInteger(length) && at >= 0 && length >= 0 && at + length <= this.bytes) return
    throw invalidValue(this.#i2c.name, `a place within ${this.bytes} bytes`, `${length} bytes at ${at}`)
  }
}

const addressOf = (at: number): Uint8Array => Uint8Array.of(at >> 8, at & 0xff)
