/**
 * Invariant: nothing done through a dummy handle reaches hardware.
 *
 * Plain objects for `describe`, and the real handle classes over a scratch file for rehearsals, so that the code that
 * will run in the takeover is the code that was compiled before it (HANDOVER 4.2).
 */

import { HardwareError } from '../../drivers/errors.ts'
import { adoptBrokered, type BrokerPort } from '../../drivers/program/broker/index.ts'
import type { Encoding, Grant, Handle, Lease, SupportedKind } from '../../drivers/program/handle.ts'
import { I2C_SMBUS_READ } from '../../drivers/program/inherit/i2c.ts'
import { adopt, type FileIo, type HandleTransports, type System } from '../../drivers/program/inherit/index.ts'
import { FD } from './wire.ts'

const GET = 1
const NOTHING = new Uint8Array(0)
/** What a rehearsal asks of its dummies at most: then it waits for an answer that a dummy does not give. */
const MOST_REQUESTS = 10_000
const NOTHING_YET = Object.assign(new Error('nothing has arrived'), { code: 'EAGAIN' })

/**
 * Answers every request with zeros, and remembers that somebody relied on one. Where there is a real broker it is asked
 * for the present value instead, a few times, so that the way to the body and back is warm too (HANDLES 7.6).
 */
export class ZeroBroker implements BrokerPort {
  asked = false
  readonly #real: BrokerPort | null
  #rounds = 8
  #requests = 0
  #ended = false

  constructor(real: BrokerPort | null) {
    this.#real = real
  }

  /** HANDOVER 13.5: whatever is asked from now on throws. */
  end(): void {
    this.#ended = true
  }

  #count(): void {
    if (this.#ended) throw new HardwareError('revoked', 'the rehearsal is over')
    if (++this.#requests <= MOST_REQUESTS) return
    this.asked = true
    throw new HardwareError(
      'other',
      `a dummy was asked ${MOST_REQUESTS} times: what the program waits for does not come`,
    )
  }

  /** HANDLES 12.15: what inherited handles need, and none of it leads to a device. `system` acts on the scratch file. */
  transports(encoding: Encoding | undefined, system: System | null): HandleTransports {
    const io: FileIo = {
      read: (_fd, bytes) => {
        this.#count()
        // a program that reads until nothing is left has to come to an end
        if (encoding === 'serial' || encoding === 'pty') throw NOTHING_YET
        this.asked = true
        return bytes.length
      },
      write: (_fd, bytes) => {
        this.#count()
        return bytes.length
      },
      close: () => {},
    }
    if (system === null) return { system, broker: this, io, rehearsal: true }
    const noted: System = {
      ioctl: (fd, request, argument) => {
        this.#count()
        // any line may be low; a chip may not be all zeros
        if (encoding !== 'line' && !isSmbusWrite(encoding, argument)) this.asked = true
        return system.ioctl(fd, request, argument)
      },
      address: (bytes) => system.address(bytes),
    }
    return { system: noted, broker: this, io, rehearsal: true }
  }

  request(id: number): Uint8Array {
    this.#count()
    this.asked = true
    if (this.#real !== null && this.#rounds-- > 0) {
      try {
        this.#real.request(id, GET, 0, NOTHING)
      } catch {
        // not every kind has a value
      }
    }
    return new Uint8Array(4096)
  }
}

/** struct i2c_smbus_ioctl_data begins with the direction; nothing is answered to a write. */
const isSmbusWrite = (encoding: Encoding | undefined, argument: Uint8Array): boolean =>
  encoding === 'i2c' && argument[0] !== I2C_SMBUS_READ

/** FIOCLEX: sets close-on-exec, takes no argument, and is allowed wherever Node runs. */
const HARMLESS = 0x5451

/** HANDLES 11.13: the way into the kernel and back, to the scratch file and with nothing to do there; answers are 0. */
export class ScratchSystem implements System {
  readonly #real: System
  readonly #fd: number

  constructor(real: System, fd: number = FD.scratch) {
    this.#real = real
    this.#fd = fd
  }

  ioctl(_fd: number, _request: number, argument: Uint8Array): number {
    return this.#real.ioctl(this.#fd, HARMLESS, argument)
  }

  address(bytes: Uint8Array): bigint {
    return this.#real.address(bytes)
  }
}

export function rehearsalHandles(
  grants: readonly Grant[],
  lease: Lease,
  broker: ZeroBroker,
  system: System | null,
): Map<string, Handle> {
  return new Map(
    grants.map((grant) => [
      grant.name,
      grant.via === 'inherit'
        ? adopt({ ...grant, fd: FD.scratch }, lease, broker.transports(grant.encoding, system))
        : adoptBrokered(grant, lease, broker, { rehearsal: true }),
    ]),
  )
}

/** For `describe` on the laptop, where there are no descriptors at all. */
export function paperHandle(name: string, kind: SupportedKind): Handle {
  const nothing = () => {}
  const shared = { name, kind, value: 0, periodNs: 20_000_000, close: nothing, write: nothing }
  const zeros = (length: number) => new Uint8Array(length)
  if (kind === 'i2c') {
    return Object.assign(shared, { address: 0, read: zeros, writeRead: (_: Uint8Array, n: number) => zeros(n) })
  }
  if (kind === 'spi') return Object.assign(shared, { transfer: (bytes: Uint8Array) => zeros(bytes.length) })
  if (kind === 'serial') return Object.assign(shared, { read: () => zeros(0) })
  if (kind === 'analog') return Object.assign(shared, { fullScale: 4.096, read: () => 0 })
  if (kind === 'temperature') return Object.assign(shared, { read: () => 0 })
  if (kind === 'listen') return Object.assign(shared, { port: null, serve: nothing })
  if (kind === 'servo') return Object.assign(shared, { range: [0, 180] })
  return Object.assign(shared, { read: () => 0, onEdge: () => nothing })
}
