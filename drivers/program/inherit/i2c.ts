/**
 * An I2C device through its inherited descriptor, which the body has bound to its address. A transfer is read(2),
 * write(2) or one SMBus call; all others go through the broker (HANDLES 12.5).
 *
 * include/uapi/linux/i2c-dev.h and i2c.h, Documentation/i2c/dev-interface.rst. struct i2c_smbus_ioctl_data: u8
 * read_write, u8 command, u32 size at 4, pointer to the data at 8. union i2c_smbus_data as a block: u8 length, 32
 * bytes, one unused.
 */

import { HardwareError } from '../../errors.ts'
import { BrokeredI2c } from '../broker/handles.ts'
import type { Grant, I2cDevice, Lease } from '../handle.ts'
import { fixedBytes, POINTER_SIZE, putPointer } from '../pointers.ts'
import { InheritedDevice } from './device.ts'
import type { System } from './system.ts'
import type { HandleTransports } from './transports.ts'

export const I2C_SMBUS_IOCTL = 0x0720
/** The limit of the broker (HANDLES 7.2), so that both ways accept the same; the kernel's is 8192. */
const MAX_TRANSFER = 4094
export const I2C_SMBUS_READ = 1
const I2C_SMBUS_WRITE = 0
const I2C_SMBUS_I2C_BLOCK_DATA = 8
const I2C_SMBUS_BLOCK_MAX = 32

export class InheritedI2c extends InheritedDevice implements I2cDevice {
  readonly kind = 'i2c'
  readonly address: number
  readonly #reading: SmbusCall | null
  readonly #writing: SmbusCall | null
  readonly #brokered: BrokeredI2c | null

  constructor(grant: Grant, lease: Lease, access: HandleTransports) {
    super(grant, lease, access)
    this.address = grant.address ?? 0
    this.#reading = access.system === null ? null : new SmbusCall(access.system, I2C_SMBUS_READ)
    this.#writing = access.system === null ? null : new SmbusCall(access.system, I2C_SMBUS_WRITE)
    this.#brokered = access.broker === null ? null : new BrokeredI2c(grant, lease, access.broker)
  }

  read(length: number): Uint8Array {
    this.check()
    this.#checkLength(length)
    const bytes = new Uint8Array(length)
    let got: number
    try {
      got = this.readSome(bytes)
    } catch (error) {
      throw this.fault(error)
    }
    if (got !== length) throw new HardwareError('bus', `${this.name}: expected ${length} bytes, got ${got}`)
    return bytes
  }

  /** A register number and at most 32 bytes of data go as one SMBus call: same bytes on the bus, half the time. */
  write(bytes: Uint8Array): void {
    this.check()
    this.#checkLength(bytes.length)
    const smbus = this.#writing
    if (smbus !== null && bytes.length > 1 && bytes.length <= 1 + I2C_SMBUS_BLOCK_MAX) {
      smbus.put(bytes)
      this.ioctl(smbus.system, I2C_SMBUS_IOCTL, smbus.bytes)
      return
    }
    let took: number
    try {
      took = this.writeSome(bytes)
    } catch (error) {
      throw this.fault(error)
    }
    if (took !== bytes.length) {
      throw new HardwareError('bus', `${this.name}: expected to write ${bytes.length} bytes, wrote ${took}`)
    }
  }

  /** One register number and at most 32 bytes of data are one SMBus call. Other transfers go through the broker. */
  writeRead(bytes: Uint8Array, length: number): Uint8Array {
    this.check()
    const smbus = this.#reading
    if (smbus !== null && bytes.length === 1 && length >= 1 && length <= I2C_SMBUS_BLOCK_MAX) {
      smbus.ask(bytes[0] as number, length)
      this.ioctl(smbus.system, I2C_SMBUS_IOCTL, smbus.bytes)
      return smbus.answer(length)
    }
    if (this.#brokered !== null) return this.#brokered.writeRead(bytes, length)
    throw new HardwareError('unsupported', `${this.name}: there is no broker for this transfer`)
  }

  override close(): void {
    this.#brokered?.close()
    super.close()
  }

  #checkLength(length: number): void {
    if (Number.isInteger(length) && length >= 0 && length <= MAX_TRANSFER) return
    throw new HardwareError('other', `${this.name}: expected at most ${MAX_TRANSFER} bytes a transfer, got ${length}`)
  }
}

/** The buffers of an SMBus call, allocated once and reused. */
class SmbusCall {
  readonly system: System
  readonly bytes = fixedBytes(8 + POINTER_SIZE)
  readonly #view = new DataView(this.bytes.buffer)
  readonly #block = fixedBytes(2 + I2C_SMBUS_BLOCK_MAX)
  #placed = false

  constructor(system: System, direction: number) {
    this.system = system
    this.bytes[0] = direction
    this.#view.setUint32(4, I2C_SMBUS_I2C_BLOCK_DATA, true)
  }

  ask(register: number, length: number): void {
    if (!this.#placed) {
      putPointer(this.#view, 8, this.system.address(this.#block))
      this.#placed = true
    }
    this.bytes[1] = register
    this.#block[0] = length
  }

  put(bytes: Uint8Array): void {
    this.ask(bytes[0] as number, bytes.length - 1)
    for (let i = 1; i < bytes.length; i++) this.#block[i] = bytes[i] as number
  }

  /** A copy, since the next call overwrites the buffer. */
  answer(length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    for (let i = 0; i < length; i++) bytes[i] = this.#block[1 + i] as number
    return bytes
  }
}
