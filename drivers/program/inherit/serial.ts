/** A serial line through its inherited descriptor, which is non-blocking: no read or write waits (HANDLES 12.13). */
import { HardwareError } from '../../errors.ts'
import type { Grant, Lease, SerialPort } from '../handle.ts'
import { InheritedDevice } from './device.ts'
import type { HandleTransports } from './transports.ts'

const NOTHING = new Uint8Array(0)

export class InheritedSerial extends InheritedDevice implements SerialPort {
  readonly kind = 'serial'
  readonly #simulated: boolean

  constructor(grant: Grant, lease: Lease, access: HandleTransports) {
    super(grant, lease, access)
    this.#simulated = grant.encoding === 'pty'
  }

  read(most: number): Uint8Array {
    this.check()
    if (!(Number.isInteger(most) && most >= 0)) {
      throw new HardwareError('other', `${this.name}: expected a number of bytes, got ${most}`)
    }
    if (most === 0) return NOTHING
    const bytes = new Uint8Array(most)
    let got: number
    try {
      got = this.readSome(bytes)
    } catch (error) {
      if (wouldWait(error) || this.#isUnheard(error)) return NOTHING
      throw this.fault(error)
    }
    // end of file: the adapter was unplugged, or the terminal hung up
    if (got === 0) throw new HardwareError('no-device', `${this.name}: the serial line is gone`)
    return bytes.subarray(0, got)
  }

  write(bytes: Uint8Array): void {
    this.check()
    let written = 0
    while (written < bytes.length) {
      try {
        written += this.writeSome(bytes.subarray(written))
      } catch (error) {
        if (this.#isUnheard(error)) return
        if (!wouldWait(error)) throw this.fault(error)
        const message = `${this.name}: the serial line's buffer is full: took ${written} of ${bytes.length} bytes`
        throw Object.assign(new HardwareError('busy', message, { cause: error }), { written })
      }
    }
  }

  /**
   * On a simulated line: nobody is at the other end (EIO), or nobody reads. Like a wire, it drops bytes (HANDLES 9.10).
   */
  #isUnheard(error: unknown): boolean {
    return this.#simulated && (wouldWait(error) || (error as { code?: unknown }).code === 'EIO')
  }
}

function wouldWait(error: unknown): boolean {
  return (error as { code?: unknown }).code === 'EAGAIN'
}
