/** A brokered SPI device: each transfer is a request to the body, with the fence of the lease (HANDLES 3.4, 7.4). */

import { HardwareError } from '../../errors.ts'
import type { SpiDevice } from '../handle.ts'
import { BrokeredDevice } from './device.ts'
import { MAX_PAYLOAD, OP } from './protocol.ts'

export class BrokeredSpi extends BrokeredDevice implements SpiDevice {
  readonly kind = 'spi'

  transfer(bytes: Uint8Array): Uint8Array {
    this.check()
    const { length } = bytes
    if (length > MAX_PAYLOAD) {
      throw new HardwareError('other', `${this.name}: expected at most ${MAX_PAYLOAD} bytes a message, got ${length}`)
    }
    if (length === 0) return new Uint8Array(0)
    return this.request(OP.spiTransfer, bytes, length).slice()
  }
}
