/**
 * The other side of the comparison: a process that opened the device itself, and uses the packages that people use.
 *
 * Where there is no device, those packages are given a descriptor as if they had opened it.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { parseBoard } from '../../drivers/board/board.ts'
import { LinuxBackend } from '../../drivers/owner/linux/backend.ts'
import { SimBackend } from '../../drivers/owner/sim/backend.ts'
import { World } from '../../drivers/owner/sim/world.ts'
import { GPIO_V2_LINE_SET_VALUES_IOCTL, lineValues } from '../../drivers/program/inherit/line.ts'
import { BLOCK, type Devices, HARMLESS_IOCTL, IMU, LINES, type Operation, REGISTER } from './operations.ts'
import { temporary } from './rig.ts'

interface Gpio {
  writeSync(level: 0 | 1): void
}
interface Onoff {
  Gpio: { new (line: number, direction: string): Gpio; readonly prototype: Gpio }
}
interface Bus {
  _peripherals: number[]
  i2cWriteSync(address: number, length: number, bytes: Buffer): number
  writeByteSync(address: number, command: number, byte: number): Bus
  readI2cBlockSync(address: number, command: number, length: number, bytes: Buffer): number
}
interface I2cBus {
  openSync(bus: number): Bus
}
interface Koffi {
  load(path: null): { func(declaration: string): (fd: number, request: number, argument: Uint8Array) => number }
}

const require = createRequire(import.meta.url)
const CLASS = '/sys/class/gpio'

export const OWN: Record<Operation, string> = {
  value: "onoff's writeSync",
  line: 'ioctl through koffi, nothing else',
  'i2c-write': "i2c-bus's i2cWriteSync: write(2)",
  'i2c-write-byte': "i2c-bus's writeByteSync: SMBus, the same bytes on the bus",
  'i2c-read': "i2c-bus's readI2cBlockSync",
  record: 'a call into the simulated world',
}

/** `fd` stands for the device where there is none. */
export function ownOperation(operation: Operation, devices: Devices, fd: number): (i: number) => void {
  switch (operation) {
    case 'value': {
      const { Gpio } = require('onoff') as Onoff
      const gpio: Gpio =
        devices === 'kernel'
          ? new Gpio(sysfsNumber(LINES.ownValue), 'out')
          : Object.assign(Object.create(Gpio.prototype) as Gpio, { _valueFd: fd })
      return (i) => gpio.writeSync((i & 1) as 0 | 1)
    }
    case 'line': {
      const koffi = require('koffi') as Koffi
      const ioctl = koffi.load(null).func('int ioctl(int fd, unsigned long request, void *argument)')
      const values = [lineValues(0), lineValues(1)] as const
      const own = devices === 'kernel' ? requestedLine() : fd
      const request = devices === 'kernel' ? GPIO_V2_LINE_SET_VALUES_IOCTL : HARMLESS_IOCTL
      return (i) => {
        if (ioctl(own, request, values[(i & 1) as 0 | 1]) === -1) throw new Error('the ioctl failed')
      }
    }
    case 'i2c-write': {
      const bus = openBus(devices, fd)
      const bytes = Buffer.from([REGISTER, 0])
      return (i) => {
        bytes[1] = i & 0xff
        bus.i2cWriteSync(IMU.address, 2, bytes)
      }
    }
    case 'i2c-write-byte': {
      const bus = openBus(devices, fd)
      return (i) => bus.writeByteSync(IMU.address, REGISTER, i & 0xff)
    }
    case 'i2c-read': {
      const bus = openBus(devices, fd)
      const bytes = Buffer.alloc(BLOCK.length)
      return () => bus.readI2cBlockSync(IMU.address, BLOCK.register, BLOCK.length, bytes)
    }
    case 'record': {
      const { handles } = parseBoard(
        JSON.stringify({ model: 'sim', handles: { own: output(LINES.ownLine, { via: 'broker' }) } }),
        'own',
      )
      const backend = new SimBackend({ world: new World(), folder: join(temporary(true), 'own') })
      const handle = backend.open('own', 1, handles.own as (typeof handles)[string])
      return (i) => handle.drive(i & 1, 1)
    }
  }
}

export const output = (line: string, more: object = {}) => ({ kind: 'output', line, ...more })

function openBus(devices: Devices, fd: number): Bus {
  const bus = (require('i2c-bus') as I2cBus).openSync(IMU.bus)
  if (devices === 'none') bus._peripherals[IMU.address] = fd
  return bus
}

/** Requested by this process, as a body would. */
function requestedLine(): number {
  const board = parseBoard(JSON.stringify({ model: 'pi4', handles: { own: output(LINES.ownLine) } }), 'own')
  const { own } = board.handles
  const source = new LinuxBackend({ board }).open('own', 1, own as NonNullable<typeof own>).grant()
  if (source.via !== 'inherit') throw new Error('expected a descriptor')
  return source.fd
}

/** onoff takes the kernel's number: base of the chip plus the line. */
function sysfsNumber(line: string): number {
  const chip = readdirSync(CLASS).find((name) => name.startsWith('gpiochip'))
  if (chip === undefined) throw new Error(`no chip in ${CLASS}`)
  return Number(readFileSync(join(CLASS, chip, 'base'), 'utf8')) + Number(line.slice('GPIO'.length))
}
