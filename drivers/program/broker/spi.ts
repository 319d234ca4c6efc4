/** Invariant: a transfer goes to the owner under the fence of the lease, and never without one (HANDLES 3.4, 7.4). */

import { HardwareError } from '../../errors.ts'
import { revoked } from '../attached.ts'
import type { Grant, Lease, SpiDevice } from '../handle.ts'
import type { BrokerPort } from './client.ts'
import { MAX_PAYLOAD, OP } from './protocol.ts'

export class BrokeredSpi implements SpiDevice {
  readonly kind = 'spi'
  readonly name: string
  readonly #id: number
  readonly #lease: Lease
  readonly #client: BrokerPort
  #open = true

  constructor(grant: Grant, lease: Lease, client: BrokerPort) {
    this.name = grant.name
    this.#id = grant.id
    this.#lease = lease
    this.#client = client
  }

  transfer(bytes: Uint8Array): Uint8Array {
    if (!this.#lease.live || !this.#open) throw revoked(this.name, this.#open)
    const { length } = bytes
    if (length > MAX_PAYLOAD) {
      throw new HardwareError('other', `${this.name}: expected at most ${MAX_PAYLOAD} bytes a message, got ${length}`)
    }
    if (length === 0) return new Uint8Array(0)
    const answer = this.#client.request(this.#id, OP.spiTransfer, this.#lease.fence, bytes)
    if (answer.length < length) {
      throw new HardwareError('bus', `${this.name}: expected ${length} bytes, got ${answer.length}`)
    }
    return answer.slice(0, length)
  }

  close(): void {
    this.#open = false
  }
}
