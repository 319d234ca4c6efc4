/**
 * Ports on inherited descriptors: a write is one system call with a buffer that was allocated before.
 *
 * Nothing here opens or configures hardware: the body has done so (HANDLES 3.1).
 */
import { closeSync, readSync, writeSync } from 'node:fs'
import { HardwareError, hardwareFault } from '../../errors.ts'
import type { HandlePort } from '../attached.ts'
import type { Grant, Lease } from '../handle.ts'
import { dutyOf, type ServoScale, scaleOfGrant } from '../servo.ts'
import { encodeWriteRecord, WRITE_RECORD_SIZE } from './record.ts'

const ZERO = Buffer.from('0')
const ONE = Buffer.from('1')
const ASCII_ONE = 0x31

/** Base class: a port on a descriptor of this process. */
export class FdPort implements HandlePort {
  readonly name: string
  readonly fd: number

  constructor(grant: Grant) {
    if (grant.fd === undefined) throw new HardwareError('no-device', `${grant.name}: the grant has no descriptor`)
    this.name = grant.name
    this.fd = grant.fd
  }

  write(_value: number): void {
    throw new HardwareError('unsupported', `${this.name}: cannot be written`)
  }

  read(): number {
    throw new HardwareError('unsupported', `${this.name}: cannot be read`)
  }

  close(): void {
    closeSync(this.fd)
  }
}

/** Writes one record to a pipe, with the fence and the time of the write (HANDLES 4). */
export class RecordPort extends FdPort {
  readonly #id: number
  readonly #lease: Lease
  readonly #bytes = new Uint8Array(WRITE_RECORD_SIZE)
  readonly #view = new DataView(this.#bytes.buffer)

  constructor(grant: Grant, lease: Lease) {
    super(grant)
    this.#id = grant.id
    this.#lease = lease
  }

  override write(value: number): void {
    encodeWriteRecord(this.#view, this.#id, this.#lease.fence, process.hrtime.bigint(), value)
    try {
      writeSync(this.fd, this.#bytes)
    } catch (error) {
      throw hardwareFault(this.name, error)
    }
  }
}

/** Writes `0` or `1` at position 0 (HANDLES 5.1). */
export class LevelTextPort extends FdPort {
  override write(value: number): void {
    try {
      writeSync(this.fd, value ? ONE : ZERO, 0, 1, 0)
    } catch (error) {
      throw hardwareFault(this.name, error)
    }
  }
}

/** Writes the pulse in ns at position 0, as decimal text with a newline (HANDLES 5.2). */
export class DutyTextPort extends FdPort {
  readonly #periodNs: number
  readonly #bytes = Buffer.alloc(24)

  constructor(grant: Grant) {
    super(grant)
    this.#periodNs = grant.periodNs ?? 0
  }

  override write(value: number): void {
    const length = this.#bytes.write(`${Math.round(value * this.#periodNs)}\n`, 0, 'latin1')
    try {
      writeSync(this.fd, this.#bytes, 0, length, 0)
    } catch (error) {
      throw hardwareFault(this.name, error)
    }
  }
}

/** Writes the pulse for an angle of a servo (HANDLES 5.2). */
export class AngleTextPort extends DutyTextPort {
  readonly #scale: ServoScale

  constructor(grant: Grant) {
    super(grant)
    this.#scale = scaleOfGrant(grant)
  }

  override write(degrees: number): void {
    super.write(dutyOf(this.#scale, degrees))
  }
}

/** Reads a level: one byte at position 0 (HANDLES 5.3). Edges come from the body instead. */
export class LevelPort extends FdPort {
  readonly #bytes = Buffer.alloc(1)

  override read(): number {
    let got: number
    try {
      got = readSync(this.fd, this.#bytes, 0, 1, 0)
    } catch (error) {
      throw hardwareFault(this.name, error)
    }
    if (got !== 1) throw new HardwareError('no-device', `${this.name}: expected one byte, got none`)
    return this.#bytes[0] === ASCII_ONE ? 1 : 0
  }
}
