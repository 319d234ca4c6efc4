/**
 * An SPI device through its inherited descriptor: a transfer is one SPI_IOC_MESSAGE with one part, at the mode and
 * speed that the body has set (HANDLES 12.11).
 *
 * include/uapi/linux/spi/spidev.h, struct spi_ioc_transfer, 32 bytes on every architecture: u64 tx_buf, u64 rx_buf at 8,
 * u32 len at 16, u32 speed_hz, u16 delay_usecs, u8 bits_per_word, u8 cs_change, u8 tx_nbits, rx_nbits, word_delay_usecs.
 * A zero in a setting means the device's own setting.
 */
import { HardwareError } from '../../errors.ts'
import { iow } from '../../ioctl.ts'
import type { Grant, Lease, SpiDevice } from '../handle.ts'
import { fixedBytes } from '../pointers.ts'
import { InheritedDevice } from './device.ts'
import type { System } from './system.ts'
import type { HandleTransports } from './transports.ts'

const TRANSFER_SIZE = 32
const LENGTH_AT = 16
/** SPI_IOC_MESSAGE(1) */
export const SPI_IOC_MESSAGE_1 = iow(0x6b, 0, TRANSFER_SIZE)
/** spidev's default buffer size (its parameter bufsiz). */
const MAX_MESSAGE = 4096

export class InheritedSpi extends InheritedDevice implements SpiDevice {
  readonly kind = 'spi'
  readonly #system: System
  readonly #message = new Uint8Array(TRANSFER_SIZE)
  readonly #view = new DataView(this.#message.buffer)
  readonly #out = fixedBytes(MAX_MESSAGE)
  readonly #in = fixedBytes(MAX_MESSAGE)
  #placed = false

  constructor(grant: Grant, lease: Lease, access: HandleTransports) {
    super(grant, lease, access)
    if (access.system === null) throw new HardwareError('unsupported', `${grant.name}: SPI needs the loader's ioctl`)
    this.#system = access.system
  }

  transfer(bytes: Uint8Array): Uint8Array {
    this.check()
    const { length } = bytes
    if (length > MAX_MESSAGE) {
      throw new HardwareError('other', `${this.name}: expected at most ${MAX_MESSAGE} bytes a message, got ${length}`)
    }
    if (length === 0) return new Uint8Array(0)
    if (!this.#placed) {
      this.#view.setBigUint64(0, this.#system.address(this.#out), true)
      this.#view.setBigUint64(8, this.#system.address(this.#in), true)
      this.#placed = true
    }
    this.#out.set(bytes)
    this.#view.setUint32(LENGTH_AT, length, true)
    this.ioctl(this.#system, SPI_IOC_MESSAGE_1, this.#message)
    return this.#in.slice(0, length)
  }
}
