/** Makes brokered handles: each operation is a request to the body, with the fence of the program's lease. */

import { HardwareError } from '../../errors.ts'
import { AttachedAnalog } from '../analog.ts'
import { attach, type HandlePort, type Pacing } from '../attached.ts'
import type { Grant, Handle, I2cDevice, Lease } from '../handle.ts'
import { InheritedListening } from '../inherit/listening.ts'
import { AttachedTemperature } from '../temperature.ts'
import type { BrokerPort } from './client.ts'
import { BrokeredDevice } from './device.ts'
import { decodeNumber, encodeNumber, MAX_PAYLOAD, OP } from './protocol.ts'
import { BrokeredSpi } from './spi.ts'

const NOTHING = new Uint8Array(0)

/** All handles of a program share the client, so closing a handle does not close it. */
export function adoptBrokered(grant: Grant, lease: Lease, client: BrokerPort, pacing: Pacing = {}): Handle {
  if (grant.kind === 'i2c') return new BrokeredI2c(grant, lease, client)
  if (grant.kind === 'analog') return new AttachedAnalog(grant, new BrokeredI2c(grant, lease, client), pacing)
  if (grant.kind === 'temperature') return new AttachedTemperature(grant, new RemotePort(grant, lease, client))
  if (grant.kind === 'spi') return new BrokeredSpi(grant, lease, client)
  if (grant.kind === 'listen') return new InheritedListening(grant, { system: null, broker: client })
  return attach(grant, lease, new RemotePort(grant, lease, client), pacing)
}

class RemotePort implements HandlePort {
  readonly #grant: Grant
  readonly #lease: Lease
  readonly #client: BrokerPort

  constructor(grant: Grant, lease: Lease, client: BrokerPort) {
    this.#grant = grant
    this.#lease = lease
    this.#client = client
  }

  write(value: number): void {
    this.#client.request(this.#grant.id, OP.set, this.#lease.fence, encodeNumber(value))
  }

  read(): number {
    const value = decodeNumber(this.#client.request(this.#grant.id, OP.get, this.#lease.fence, NOTHING))
    if (value === null) throw new HardwareError('other', `${this.#grant.name}: expected 8 bytes, got fewer`)
    return value
  }

  close(): void {}
}

export class BrokeredI2c extends BrokeredDevice implements I2cDevice {
  readonly kind = 'i2c'
  readonly address: number

  constructor(grant: Grant, lease: Lease, client: BrokerPort) {
    super(grant, lease, client)
    this.address = grant.address ?? 0
  }

  read(length: number): Uint8Array {
    return this.#transfer(OP.i2cRead, length, NOTHING)
  }

  write(bytes: Uint8Array): void {
    this.#transfer(OP.i2cWrite, 0, bytes)
  }

  writeRead(bytes: Uint8Array, length: number): Uint8Array {
    return this.#transfer(OP.i2cTransfer, length, bytes)
  }

  #transfer(op: number, length: number, bytes: Uint8Array): Uint8Array {
    this.check()
    // the payload starts with two bytes of length (HANDLES 7.4)
    if (!Number.isInteger(length) || length < 0 || length > MAX_PAYLOAD || bytes.length > MAX_PAYLOAD - 2) {
      throw new HardwareError('other', `${this.name}: expected at most ${MAX_PAYLOAD - 2} bytes a transfer`)
    }
    const payload = new Uint8Array(2 + bytes.length)
    payload[0] = length & 0xff
    payload[1] = length >> 8
    payload.set(bytes, 2)
    return this.request(op, payload, length)
  }
}
