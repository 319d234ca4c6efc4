/**
 * Opens devices on an I2C bus, and runs the transfers of brokered programs.
 *
 * Opening a device sends nothing to its chip: a swap must not disturb a chip that runs (HANDLES 12.3).
 *
 * The package i2c-bus opens one descriptor for each address and binds it: the address belongs to the open file
 * (Documentation/i2c/dev-interface.rst). Transfers go through i2c-bus, but those with a repeated start, which i2c-bus
 * does not have, through I2C_RDWR.
 */
import { readlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { basename } from 'node:path'
import type { AnalogEntry, I2cEntry } from '../../board/types.ts'
import { HardwareError, hardwareFault } from '../../errors.ts'
import { MAX_PAYLOAD, OP } from '../../program/broker/protocol.ts'
import { fixedBytes, POINTER_SIZE, putPointer } from '../../program/pointers.ts'
import type { OpenContext, OpenDevice } from './device.ts'
import { keptFd, openFault } from './faults.ts'
import type { LinuxSystem } from './system.ts'

const I2C_RDWR = 0x0707
const I2C_M_RD = 0x0001
/** struct i2c_msg: u16 addr, u16 flags, u16 len, pointer at 8 (include/uapi/linux/i2c.h). */
const MESSAGE_SIZE = 8 + POINTER_SIZE

interface Bus {
  /** Descriptors by address; i2c-bus opens only those that are missing here. */
  readonly _peripherals: (number | undefined)[]
  i2cReadSync(address: number, length: number, buffer: Buffer): number
  i2cWriteSync(address: number, length: number, buffer: Buffer): number
  closeSync(): void
}
interface I2cBusPackage {
  openSync(bus: number): Bus
}

export function openI2c({ name, entry, system, kept }: OpenContext<I2cEntry | AnalogEntry>): OpenDevice {
  const { address } = entry
  const bus = load(name).openSync(entry.bus)
  const fd = kept === undefined ? bind(name, bus, entry) : keptFd(name, kept.fds)
  bus._peripherals[address] = fd
  return {
    source: { via: 'inherit', fd, encoding: 'i2c' },
    fds: [fd],
    request(op, payload) {
      const { bytes, length } = transferOf(name, op, payload)
      try {
        if (bytes.length > 0 && length > 0) return combined(system, fd, address, bytes, length)
        if (length === 0) {
          checkTransferred(name, bytes.length, bus.i2cWriteSync(address, bytes.length, bytes))
          return new Uint8Array(0)
        }
        const answer = Buffer.alloc(length)
        checkTransferred(name, length, bus.i2cReadSync(address, length, answer))
        return answer
      } catch (error) {
        throw hardwareFault(name, error)
      }
    },
    close: () => bus.closeSync(),
  }
}

function load(name: string): I2cBusPackage {
  try {
    return createRequire(import.meta.url)('i2c-bus') as I2cBusPackage
  } catch (cause) {
    const message = `${name}: the package i2c-bus cannot be loaded: npm install i2c-bus@5.2.3, which needs a compiler`
    throw new HardwareError('unsupported', message, { cause })
  }
}

/** i2c-bus opens the bus and sets I2C_SLAVE in its first transfer. A transfer of no bytes does only that. */
function bind(name: string, bus: Bus, { bus: number, address }: I2cEntry | AnalogEntry): number {
  try {
    bus.i2cReadSync(address, 0, Buffer.alloc(0))
  } catch (error) {
    bus.closeSync()
    if ((error as { code?: unknown }).code === 'EBUSY') throw heldByKernel(name, number, address, error)
    const enable = `add dtparam=i2c_arm=on to /boot/firmware/config.txt, load i2c-dev, start again`
    throw openFault(name, `/dev/i2c-${number}`, error, enable, 'i2c')
  }
  const fd = bus._peripherals[address]
  if (fd === undefined) throw new HardwareError('other', `${name}: i2c-bus opened nothing`)
  return fd
}

/** The address is refused, never forced: a kernel driver and a program would both talk to the chip (HANDLES 12.4). */
function heldByKernel(name: string, bus: number, address: number, cause: unknown): HardwareError {
  const device = `${bus}-${address.toString(16).padStart(4, '0')}`
  let driver = 'a kernel driver'
  let unbind = 'remove its overlay from /boot/firmware/config.txt'
  try {
    driver = `the kernel driver ${basename(readlinkSync(`/sys/bus/i2c/devices/${device}/driver`))}`
    unbind += `, or write ${device} to /sys/bus/i2c/devices/${device}/driver/unbind`
  } catch {
    // no driver link: the device has gone meanwhile
  }
  return new HardwareError('busy', `${name}: i2c device ${device} is held by ${driver}: ${unbind}`, { cause })
}

/** Decodes the payload of an I2C operation: u16 length to read, then the bytes to write (HANDLES 7.4). */
function transferOf(name: string, op: number, payload: Uint8Array): { bytes: Buffer; length: number } {
  const reads = op === OP.i2cRead || op === OP.i2cTransfer
  const writes = op === OP.i2cWrite || op === OP.i2cTransfer
  if (!reads && !writes) throw new HardwareError('unsupported', `${name}: no operation ${op} for kind i2c`)
  const length = (payload[0] ?? 0) | ((payload[1] ?? 0) << 8)
  if (payload.length < 2 || length > MAX_PAYLOAD) {
    throw new HardwareError('other', `${name}: expected a length up to ${MAX_PAYLOAD}, got ${length}`)
  }
  return { bytes: Buffer.from(writes ? payload.subarray(2) : []), length: reads ? length : 0 }
}

/** struct i2c_rdwr_ioctl_data: pointer to the messages, u32 nmsgs (include/uapi/linux/i2c-dev.h). */
function combined(system: LinuxSystem, fd: number, address: number, bytes: Uint8Array, length: number): Uint8Array {
  const out = fixedBytes(bytes.length)
  out.set(bytes)
  const answer = fixedBytes(length)
  const messages = fixedBytes(2 * MESSAGE_SIZE)
  const view = new DataView(messages.buffer)
  for (const [at, flags, part] of [
    [0, 0, out],
    [MESSAGE_SIZE, I2C_M_RD, answer],
  ] as const) {
    view.setUint16(at, address, true)
    view.setUint16(at + 2, flags, true)
    view.setUint16(at + 4, part.length, true)
    putPointer(view, at + 8, system.address(part))
  }
  const argument = fixedBytes(2 * POINTER_SIZE)
  const call = new DataView(argument.buffer)
  putPointer(call, 0, system.address(messages))
  call.setUint32(POINTER_SIZE, 2, true)
  system.ioctl(fd, I2C_RDWR, argument)
  return answer
}

function checkTransferred(name: string, wanted: number, got: number): void {
  if (got !== wanted) throw new HardwareError('bus', `${name}: expected to transfer ${wanted} bytes, got ${got}`)
}
