/**
 * Invariant: nothing done through a dummy handle reaches hardware (HANDOVER 4.2; test/runtime/sdk/dummies.test.ts).
 *
 * A rehearsal gets the real handle classes over a scratch file, so that the code of the takeover is compiled before the
 * takeover. `describe` gets plain objects.
 */

import { HardwareError } from '../../drivers/errors.ts'
import { adoptBrokered, type BrokerPort } from '../../drivers/program/broker/index.ts'
import type { Encoding, Grant, Handle, Lease, SupportedKind } from '../../drivers/program/handle.ts'
import { I2C_SMBUS_READ } from '../../drivers/program/inherit/i2c.ts'
import { adopt, type FileIo, type HandleTransports, type System } from '../../drivers/program/inherit/index.ts'
import { FD } from './wire.ts'

const GET = 1
const NOTHING = new Uint8Array(0)
/** More requests than this in one rehearsal: the program waits in a loop for an answer that a dummy never gives. */
const MOST_REQUESTS = 10_000
const NOTHING_YET = Object.assign(new Error('nothing has arrived'), { code: 'EAGAIN' })

/**
 * Answers every request with zeros, and records that the program relied on such an answer (`asked`). With a real broker,
 * the first few requests also read the present value there, to warm up the path to the body and back (HANDLES 7.6).
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

  /** Every later request throws (HANDOVER 13.5). */
  end(): void {
    this.#ended = true
  }

  #count(): void {
    if (this.#ended) throw new HardwareError('revoked', 'the rehearsal is over')
    if (++this.#requests <= MOST_REQUESTS) return
    this.asked = true
    throw new HardwareError(
      'other',
      `a dummy handle was asked ${MOST_REQUESTS} times: the program waits for a value that a dummy never gives`,
    )
  }

  /** The transports of inherited handles; none of them reaches a device (HANDLES 12.15). `system` acts on the scratch file. */
  access(encoding: Encoding | undefined, system: System | null): HandleTransports {
    const io: FileIo = {
      read: (_fd, bytes) => {
        this.#count()
        // EAGAIN, not zeros: a program may read a serial line until it is empty
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
        // a line at level 0 is a plausible answer, a chip with zeros in all registers is not
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

/** A write has no answer to rely on. The first byte of struct i2c_smbus_ioctl_data is the direction. */
const isSmbusWrite = (encoding: Encoding | undefined, argument: Uint8Array): boolean =>
  encoding === 'i2c' && argument[0] !== I2C_SMBUS_READ

/** FIOCLEX sets close-on-exec, takes no argument, and passes the seccomp filter on every descriptor. */
const HARMLESS = 0x5451

/** Replaces every ioctl by a harmless one on the scratch file: the path into the kernel stays the same, answers are 0 (HANDLES 11.13). */
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
        ? adopt({ ...grant, fd: FD.scratch }, lease, broker.access(grant.encoding, system))
        : adoptBrokered(grant, lease, broker, { rehearsal: true }),
    ]),
  )
}

/** A handle for `describe`: on the laptop there are no descriptors. */
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
