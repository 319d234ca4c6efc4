/** I2C, PWM and SPI of a real kernel: writes reach the chip; opening, adopting and swapping send nothing. */

import { writeFileSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { parseBoard } from '../../drivers/board/board.ts'
import type { BoardHandle } from '../../drivers/board/types.ts'
import { i2cBus, Pca9685 } from '../../drivers/index.ts'
import { grantOf, type OwnedHandle } from '../../drivers/owner/backend.ts'
import { serveBroker } from '../../drivers/owner/broker.ts'
import { LinuxBackend } from '../../drivers/owner/linux/backend.ts'
import { loadSystem } from '../../drivers/owner/linux/system.ts'
import type { I2cDevice, Lease } from '../../drivers/program/handle.ts'
import { adopt } from '../../drivers/program/inherit/index.ts'
import { bundle, failure, type Host, openFds, startHost, temporary } from '../drivers/host.ts'
import { refusal } from '../drivers/refusal.ts'
import { FIRST_FD } from '../drivers/rigs.ts'
import {
  i2cCounts,
  i2cRegisters,
  inRig,
  nackI2c,
  pwmRecord,
  resetI2cCounts,
  resetPwmRecord,
  spiCounts,
} from './guest.ts'
import { trace } from './trace.ts'

const QUIET = { transfers: 0, reads: 0, writes: 0, inits: 0 }
const IMU = { kind: 'i2c', bus: 1, address: 0x68 }
const SERVOS = { kind: 'i2c', bus: 1, address: 0x40 }
/** Register numbers of this chip have two bytes. */
const ROM = { kind: 'i2c', bus: 2, address: 0x50 }
const ADC = { kind: 'spi', bus: 0, select: 1, mode: 3, speedHz: 500_000 }
const ARM = { kind: 'pwm', line: 19, frequencyHz: 50, initial: 0.075 }
const ARM_CHANNEL = 1

const folder = temporary()
let program: string
beforeAll(async () => {
  program = await bundle('children/host.ts', folder.path)
})
afterAll(() => folder.remove())

let atEnd: (() => unknown)[] = []
let before: number
beforeEach(() => {
  before = openFds()
  for (const [bus, address] of [
    [1, 0x40],
    [1, 0x68],
    [2, 0x50],
  ] as const) {
    resetI2cCounts(bus, address)
  }
})
afterEach(async () => {
  for (const undo of atEnd.reverse()) await undo()
  atEnd = []
  expect(openFds()).toBe(before)
})

function open(handles: Record<string, object>): { backend: LinuxBackend; owned: OwnedHandle[] } {
  const board = parseBoard(JSON.stringify({ model: 'pi4', handles }), 'board.json')
  const backend = new LinuxBackend({ board })
  atEnd.push(() => backend.close())
  const owned = Object.entries(board.handles).map(([name, entry], index) => backend.open(name, index + 1, entry))
  return { backend, owned }
}

function one(entry: object): { backend: LinuxBackend; handle: OwnedHandle } {
  const { backend, owned } = open({ it: entry })
  return { backend, handle: owned[0] as OwnedHandle }
}

/** A program with these handles and a lease; the broker accepts fencing number 1. */
async function child(backend: LinuxBackend, ...handles: OwnedHandle[]): Promise<Host> {
  const fds: number[] = []
  const grants = handles.map((handle) => {
    const source = handle.grant()
    if (source.via === 'inherit') fds.push(source.fd)
    return grantOf(handle, source, FIRST_FD + fds.length - 1)
  })
  const host = await startHost(program, grants, fds)
  const { end: stop } = serveBroker(host.broker, new Map(handles.map((handle) => [handle.id, handle])), () => 1)
  atEnd.push(async () => {
    await host.end()
    stop()
  })
  backend.advance(1, [])
  await host.send({ op: 'lease', lease: { live: true, fence: 1 } })
  return host
}

/** A program's handle in this process: the program's classes on the body's descriptor. */
function inProcess(backend: LinuxBackend, handle: OwnedHandle, lease: Lease = { live: true, fence: 1 }): I2cDevice {
  backend.advance(1, [])
  const source = handle.grant()
  const broker = {
    request: (_id: number, op: number, fence: number, payload: Uint8Array) => handle.request(op, payload, fence),
  }
  const grant = grantOf(handle, source, source.via === 'inherit' ? source.fd : undefined)
  return adopt(grant, lease, { system: loadSystem(), broker }) as I2cDevice
}

describe.runIf(inRig)('i2c', () => {
  test('HANDLES 12.3: opening and granting sends nothing; each call of a program is one transfer', async () => {
    const { backend, handle } = one(IMU)
    expect(backend.info('it')).toMatchObject({ opens: 1, initWrites: 0, edges: null, line: 'i2c-1@0x68' })
    const host = await child(backend, handle)
    expect(i2cCounts(1, 0x68)).toEqual(QUIET)
    // these go through the broker (HANDLES 12.5)
    expect(await host.call('it', 'writeRead', [0x75], 1)).toEqual([0x68])
    expect(i2cCounts(1, 0x68)).toEqual({ ...QUIET, transfers: 1, reads: 1 })
    await host.call('it', 'write', [0x6b, 0])
    expect(i2cCounts(1, 0x68)).toEqual({ transfers: 2, reads: 1, writes: 1, inits: 1 })
    await host.call('it', 'write', [0x10, ...Array.from({ length: 60 }, (_, index) => index)])
    expect([...i2cRegisters(1, 0x68).subarray(0x10, 0x14)]).toEqual([0, 1, 2, 3])
    await host.call('it', 'write', [0x12])
    expect(await host.call('it', 'read', 4)).toEqual([2, 3, 4, 5])
    expect(await host.call('it', 'writeRead', [0x10], 32)).toEqual(Array.from({ length: 32 }, (_, index) => index))
    const { transfers } = i2cCounts(1, 0x68)
    // longer than SMBus allows: through the body, still in one transfer
    expect(await host.call('it', 'writeRead', [0x10], 50)).toEqual(Array.from({ length: 50 }, (_, index) => index))
    expect(i2cCounts(1, 0x68).transfers).toBe(transfers + 1)
    // the longest SMBus call, and the shortest write(2) after it: one transfer each, the same bytes on the bus
    for (const length of [32, 33]) {
      const data = Array.from({ length }, (_, index) => (7 * index + length) & 0xff)
      const before = i2cCounts(1, 0x68).transfers
      await host.call('it', 'write', [0x20, ...data])
      expect(i2cCounts(1, 0x68).transfers).toBe(before + 1)
      expect([...i2cRegisters(1, 0x68).subarray(0x20, 0x20 + length)]).toEqual(data)
    }
    expect(await host.send({ op: 'get', handle: 'it', property: 'address' })).toBe(0x68)
  })

  test('HANDLES 12.5: register numbers of two bytes go through the body, which checks the fencing number', async () => {
    const { backend, handle } = one(ROM)
    const host = await child(backend, handle)
    await host.call('it', 'write', [0x01, 0x00, 7, 8, 9])
    expect(await host.call('it', 'writeRead', [0x01, 0x01], 2)).toEqual([8, 9])
    expect(i2cCounts(2, 0x50)).toEqual({ transfers: 2, reads: 2, writes: 3, inits: 0 })
    backend.advance(2, ['it'])
    expect(await failure(host.call('it', 'writeRead', [0x01, 0x01], 2))).toBe('revoked')
    expect(backend.info('it')).toMatchObject({ staleWrites: 1 })
    await host.send({ op: 'lease', lease: { live: false, fence: 1 } })
    for (const [method, ...args] of [
      ['read', 1],
      ['write', [1]],
      ['writeRead', [1], 1],
    ] as const) {
      expect(await failure(host.call('it', method, ...args))).toBe('revoked')
    }
    expect(i2cCounts(2, 0x50).transfers).toBe(2)
  })

  test('a brokered device makes the same transfers without a descriptor', async () => {
    const { backend, handle } = one({ ...IMU, via: 'broker' })
    expect(handle.grant()).toEqual({ via: 'broker' })
    const host = await child(backend, handle)
    expect(i2cCounts(1, 0x68)).toEqual(QUIET)
    expect(await host.call('it', 'writeRead', [0x75], 1)).toEqual([0x68])
    await host.call('it', 'write', [0x75])
    expect(await host.call('it', 'read', 1)).toEqual([0x68])
    expect(i2cCounts(1, 0x68)).toEqual({ ...QUIET, transfers: 3, reads: 2 })
  })

  test('a chip that does not answer gives no-ack, inherited and brokered', async () => {
    const { backend, owned } = open({ imu: IMU, rom: ROM, nobody: { kind: 'i2c', bus: 1, address: 0x13 } })
    const host = await child(backend, ...owned)
    for (const [method, ...args] of [
      ['read', 1],
      ['write', [1, 2]],
      ['writeRead', [1], 1],
      ['writeRead', [1, 2], 1],
    ] as const) {
      nackI2c(1, 0x68, 1)
      expect(await failure(host.call('imu', method, ...args))).toBe('no-ack')
      expect(await failure(host.call('nobody', method, ...args))).toBe('no-ack')
      // the chip answers the next transfer
      expect(await failure(host.call('imu', method, ...args))).toBe('none')
    }
  })

  test('HANDLES 12.4: opening an address that a kernel driver uses fails with busy and names the driver', () => {
    const bus = '/sys/bus/i2c/devices/i2c-1'
    writeFileSync(`${bus}/new_device`, 'dummy 0x29')
    atEnd.push(() => writeFileSync(`${bus}/delete_device`, '0x29'))
    const { kind, message } = refusal(() => one({ kind: 'i2c', bus: 1, address: 0x29 }))
    expect([kind, message]).toEqual([
      'busy',
      expect.stringMatching(/^it: i2c device 1-0029 is held by the kernel driver dummy/),
    ])
  })

  test('HANDLES 3.9: adopting opens nothing and sends nothing', async () => {
    const { backend, handle } = one(IMU)
    const device = inProcess(backend, handle)
    device.write(Uint8Array.of(0x6b, 1))
    resetI2cCounts(1, 0x68)
    const kept = backend.info('it')?.kept ?? { fds: [], fence: 0 }
    const recording = trace()
    const other = new LinuxBackend({ board: { model: 'pi4' } })
    const adopted = other.adopt('it', 1, handle.entry, kept)
    expect(recording.stop().filter((event) => event.what === 'open' && event.pid === process.pid)).toEqual([])
    expect(i2cCounts(1, 0x68)).toEqual(QUIET)
    expect(other.info('it')).toMatchObject({ opens: 0, initWrites: 0 })
    expect(inProcess(other, adopted).writeRead(Uint8Array.of(0x6b), 1)).toEqual(Uint8Array.of(1))
    expect(i2cCounts(1, 0x68).inits).toBe(0)
  })

  test('100 swaps write nothing, and the chip is initialised once', async () => {
    const { backend, handle } = one(IMU)
    inProcess(backend, handle).write(Uint8Array.of(0x6b, 1))
    for (let swap = 0; swap < 100; swap++) {
      expect(inProcess(backend, handle).writeRead(Uint8Array.of(0x6b), 1)[0]).toBe(1)
    }
    expect(i2cCounts(1, 0x68)).toEqual({ transfers: 101, reads: 100, writes: 1, inits: 1 })
  })

  test('HANDLES 12.14: servos on a PCA9685 keep their pulses over swaps', () => {
    const { backend, handle } = one(SERVOS)
    new Pca9685(inProcess(backend, handle), { frequencyHz: 50 }).channel(7).write(0.075)
    const { inits } = i2cCounts(1, 0x40)
    expect(inits).toBeGreaterThan(0)
    const { writes } = i2cCounts(1, 0x40)
    for (let swap = 0; swap < 10; swap++) {
      expect(new Pca9685(inProcess(backend, handle), { frequencyHz: 50 }).channel(7).value).toBeCloseTo(0.075, 3)
    }
    expect(i2cCounts(1, 0x40)).toMatchObject({ inits, writes })
    expect([...i2cRegisters(1, 0x40).subarray(0x06 + 28, 0x06 + 32)]).toEqual([0, 0, 0x33, 1])
  })

  test('npm chip drivers get a bus with the granted addresses only', async () => {
    const { backend, owned } = open({ imu: IMU, servos: SERVOS })
    const bus = i2cBus(...owned.map((handle) => inProcess(backend, handle)))
    expect(bus.readByteSync(0x68, 0x75)).toBe(0x68)
    expect(bus.scanSync()).toEqual([0x40, 0x68])
    bus.writeQuickSync(0x68, 0)
    const buffer = Buffer.alloc(2)
    expect(await bus.promisifiedBus().readI2cBlock(0x68, 0x75, 2, buffer)).toEqual({ bytesRead: 2, buffer })
    expect(() => bus.readByteSync(0x76, 0xd0)).toThrow(expect.objectContaining({ code: 'ENXIO' }))
  })
})

describe.runIf(inRig)('PWM', () => {
  // the channel stays exported after its handle was closed
  afterEach(() => {
    try {
      writeFileSync('/sys/class/pwm/pwmchip0/unexport', String(ARM_CHANNEL))
    } catch {
      // the channel was not exported
    }
  })

  test('HANDLES 12.6: opening exports, then sets period, duty cycle and enable; programs write the duty cycle', async () => {
    resetPwmRecord(ARM_CHANNEL)
    const recording = trace()
    const { backend, handle } = one(ARM)
    const applied = recording.stop().filter((event) => event.what === 'pwm')
    expect(applied.at(-1)).toMatchObject({ periodNs: 20_000_000, dutyNs: 1_500_000, enabled: true })
    // it was never enabled with another duty cycle
    expect(applied.filter((event) => event.what === 'pwm' && event.enabled)).toHaveLength(1)
    expect(pwmRecord(ARM_CHANNEL)).toMatchObject({ requests: 1, enabledChanges: 1, enabled: true, inverted: false })
    expect(handle.value()).toBe(0.075)
    expect(backend.info('it')).toMatchObject({ opens: 1, initWrites: 1, value: 0.075, line: 'GPIO19' })
    const host = await child(backend, handle)
    await host.call('it', 'write', 0.5)
    expect(pwmRecord(ARM_CHANNEL).dutyNs).toBe(10_000_000)
    await host.end('SIGKILL')
    expect(pwmRecord(ARM_CHANNEL)).toMatchObject({ dutyNs: 10_000_000, enabled: true, requests: 1, frees: 0 })
    expect(handle.value()).toBe(0.5)
    handle.drive(0.05, 1)
    expect(pwmRecord(ARM_CHANNEL)).toMatchObject({ dutyNs: 1_000_000, enabledChanges: 1, periodChanges: 1 })
  })

  test('HANDLES 12.7, 12.8: closing, opening and adopting never stop a running channel', () => {
    const { backend, handle } = one(ARM)
    handle.drive(0.5, 1)
    resetPwmRecord(ARM_CHANNEL)
    backend.close()
    expect(pwmRecord(ARM_CHANNEL)).toMatchObject({ applies: 0, frees: 0, enabled: true })
    const again = one(ARM)
    expect(pwmRecord(ARM_CHANNEL)).toMatchObject({ requests: 0, periodChanges: 0, enabledChanges: 0, dutyChanges: 1 })
    const kept = again.backend.info('it')?.kept ?? { fds: [], fence: 0 }
    resetPwmRecord(ARM_CHANNEL)
    const other = new LinuxBackend({ board: { model: 'pi4' } })
    const adopted = other.adopt('it', 1, again.handle.entry as BoardHandle, kept)
    expect(pwmRecord(ARM_CHANNEL).applies).toBe(0)
    expect(adopted.value()).toBe(0.075)
    adopted.drive(0.1, 1)
    expect(pwmRecord(ARM_CHANNEL)).toMatchObject({ applies: 1, dutyNs: 2_000_000 })
  })

  test('a channel that runs with another period is stopped, and started with its own', () => {
    one({ ...ARM, frequencyHz: 1000, initial: 1 }).backend.close()
    resetPwmRecord(ARM_CHANNEL)
    one({ ...ARM, frequencyHz: 2000, initial: 0.5 })
    expect(pwmRecord(ARM_CHANNEL)).toMatchObject({
      periodNs: 500_000,
      dutyNs: 250_000,
      enabled: true,
      enabledChanges: 2,
    })
  })

  test('opening a channel that the chip does not have is refused', () => {
    const { kind, message } = refusal(() => one({ ...ARM, channel: { chip: 0, channel: 9 } }))
    expect([kind, message]).toEqual(['no-device', 'it: expected a channel below 4, got 9'])
  })
})

describe.runIf(inRig)('SPI', () => {
  test('HANDLES 12.10, 12.11: opening sends nothing; a transfer is one message', async () => {
    const begin = spiCounts()
    const { backend, handle } = one(ADC)
    const host = await child(backend, handle)
    expect(spiCounts()).toEqual(begin)
    expect(await host.call('it', 'transfer', [1, 2, 3])).toEqual([1, 2, 3])
    expect(spiCounts()).toEqual({ transfers: begin.transfers + 1, bytes: begin.bytes + 3 })
    const most = Array.from({ length: 4096 }, (_, index) => index & 0xff)
    expect(await host.call('it', 'transfer', most)).toEqual(most)
    expect(await host.call('it', 'transfer', [])).toEqual([])
    expect(await failure(host.call('it', 'transfer', [...most, 1]))).toBe('other')
    await host.send({ op: 'lease', lease: { live: false, fence: 1 } })
    expect(await failure(host.call('it', 'transfer', [1]))).toBe('revoked')
    expect(spiCounts()).toEqual({ transfers: begin.transfers + 2, bytes: begin.bytes + 3 + 4096 })
  })

  test('mode and speed of the board apply to all processes with the descriptor', () => {
    const { handle } = one(ADC)
    const source = handle.grant()
    const fd = source.via === 'inherit' ? source.fd : -1
    const mode = new Uint8Array(1)
    loadSystem().ioctl(fd, 0x80016b01, mode)
    expect(mode[0] as number & 3).toBe(3)
    const speed = new Uint8Array(4)
    loadSystem().ioctl(fd, 0x80046b04, speed)
    expect(new DataView(speed.buffer).getUint32(0, true)).toBe(500_000)
  })

  test('HANDLES 3.9: adopting an SPI device changes nothing', () => {
    const { backend, handle } = one(ADC)
    const kept = backend.info('it')?.kept ?? { fds: [], fence: 0 }
    const recording = trace()
    const other = new LinuxBackend({ board: { model: 'pi4' } })
    expect(other.adopt('it', 1, handle.entry, kept).grant()).toEqual(handle.grant())
    expect(recording.stop().filter((event) => event.what === 'open' && event.pid === process.pid)).toEqual([])
  })
})
