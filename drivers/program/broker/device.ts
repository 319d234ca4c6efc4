/** Invariant: a device whose bus the owner holds is reached only with a live lease and an open handle (HANDLES 3.4). */

import { HardwareError } from '../../errors.ts'
import { revoked } from '../attached.ts'
import type { Grant, Lease } from '../handle.ts'
import type { BrokerPort } from './client.ts'

export abstract class BrokeredDevice {
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

  close(): void {
    this.#open = false
  }

  protected check(): void {
    if (!this.#lease.live || !this.#open) throw revoked(this.name, this.#open)
  }

  /** The first `length` bytes of the owner's answer; throws `bus` when there are fewer. */
  protected request(op: number, payload: Uint8Array, length: number): Uint8Array {
    const answer = this.#client.request(this.#id, op, this.#lease.fence, payload)
    if (answer.length < length) {
      throw new HardwareError('bus', `${this.name}: expected ${length} bytes, got ${answer.length}`)
    }
    return answer.subarray(0, length)
  }
}
