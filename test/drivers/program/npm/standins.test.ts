/** The replacements of i2c-bus, spi-device and serialport: their interfaces, on granted handles. */
import { AsyncLocalStorage } from 'node:async_hooks'
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, describe, expect, test } from 'vitest'
import { parseBoard } from '../../../../drivers/board/board.ts'
import { grantOf } from '../../../../drivers/owner/backend.ts'
import { SimBackend } from '../../../../drivers/owner/sim/backend.ts'
import { World } from '../../../../drivers/owner/sim/world.ts'
import { bindTo, withHandles } from '../../../../drivers/program/granted.ts'
import type { Handle, SpiDevice } from '../../../../drivers/program/handle.ts'
import { adopt } from '../../../../drivers/program/inherit/index.ts'
import { open as openBus, openSync as openBusSync, openPromisified } from '../../../../drivers/program/npm/i2c-bus.ts'
import { SerialPort } from '../../../../drivers/program/npm/serialport.ts'
import { open as openSpi, openSync as openSpiSync } from '../../../../drivers/program/npm/spi-device.ts'
import { simulatedChips } from '../../chips.ts'
import { temporary } from '../../host.ts'

const folder = temporary()
afterAll(() => folder.remove())

const IMU = 0x68
const handlesOf = (...handles: Handle[]) => new Map(handles.map((handle) => [handle.name, handle]))

test('i2c-bus: opening throws before run; in run, every bus has the granted addresses', async () => {
  expect(() => openBusSync(1)).toThrow('i2c-bus is used before the program runs: use it inside run')
  const { devices } = simulatedChips(folder.path, { [IMU]: 'mpu6050' })
  const handles = handlesOf(...devices)
  const [bus, promised] = await withHandles(handles, () => Promise.all([openBusSync(1), openPromisified(1)]))
  expect(bus.readByteSync(IMU, 0x75)).toBe(0x68)
  expect(await promised.readByte(IMU, 0x75)).toBe(0x68)
  const later = await new Promise<unknown>((done) =>
    withHandles(handles, () => openBus(1, {}, (_, opened) => done(opened))),
  )
  expect((later as typeof bus).scanSync()).toEqual([IMU])
  expect(() => bus.readByteSync(0x20, 0)).toThrow("ask for the board's i2c handle that has it")
  expect(() => withHandles(handles, () => openBusSync(-1))).toThrow('Invalid I2C bus number -1')
})

test('a promise and a callback keep the handles of the run in which they began', async () => {
  const [one, two] = [1, 2].map((n) => handlesOf(...simulatedChips(folder.path, { [IMU + n - 1]: 'mpu6050' }).devices))
  if (one === undefined || two === undefined) throw new Error('expected two')
  const found: number[][] = []
  const run = async () => {
    await sleep(1)
    found.push(openBusSync(1).scanSync())
  }
  const tick = bindTo(one, () => found.push(openBusSync(1).scanSync()))
  await Promise.all([withHandles(one, run), withHandles(two, run)])
  tick()
  expect(found).toEqual([[IMU], [IMU + 1], [IMU]])
  expect(new AsyncLocalStorage().getStore()).toBeUndefined()
})

function spi(name: string): SpiDevice & { sent: number[][] } {
  const sent: number[][] = []
  const transfer = (bytes: Uint8Array) => {
    sent.push([...bytes])
    return bytes.map((byte) => byte + 1)
  }
  return { name, kind: 'spi', sent, transfer, close: () => {} }
}

test('spi-device: a message selects the chip once, unless it asks for more', async () => {
  const adc = spi('adc')
  const device = withHandles(handlesOf(adc), () => openSpiSync(0, 0, { mode: 0, maxSpeedHz: 1_000_000 }))
  const [first, second] = [Buffer.alloc(2), Buffer.alloc(1)]
  device.transferSync([
    { byteLength: 2, sendBuffer: Buffer.of(1, 2), receiveBuffer: first },
    { byteLength: 1, receiveBuffer: second },
  ])
  expect(adc.sent).toEqual([[1, 2, 0]])
  expect([...first, ...second]).toEqual([2, 3, 1])
  const message = [
    { byteLength: 1, sendBuffer: Buffer.of(7), chipSelectChange: true },
    { byteLength: 1, sendBuffer: Buffer.of(8) },
  ]
  expect(
    await new Promise((done) => device.transfer(message, (error, same) => done([error, same === message]))),
  ).toEqual([null, true])
  expect(adc.sent.slice(1)).toEqual([[7], [8]])
  const opened = await new Promise<unknown>((done) => {
    const made = withHandles(handlesOf(adc), () => openSpi(0, 1, {}, (error) => done([error, typeof made.transfer])))
  })
  expect(opened).toEqual([null, 'function'])
  expect(device.closeSync()).toBeNull()
  expect(() => withHandles(handlesOf(adc, spi('led')), () => openSpiSync(0, 1))).toThrow(
    'spi-device: the program has 2 spi handles, and 0.1 is none of them: adc, led',
  )
  expect(() => withHandles(handlesOf(), () => openSpiSync(0, 1))).toThrow(
    "the program has no spi handle: ask for one of the board, needs: { name: 'spi' }",
  )
})

describe.runIf(process.platform === 'linux')('serialport', () => {
  const links = join(folder.path, 'serial')
  const board = parseBoard(
    JSON.stringify({ model: 'sim', handles: { gps: { kind: 'serial', path: '/dev/serial0', baud: 9600 } } }),
    'board.json',
  )

  /** The program's end, and the terminal at the other end. */
  function line() {
    const backend = new SimBackend({ world: new World(), folder: null, links })
    const entry = board.handles.gps
    if (entry === undefined) throw new Error('expected an entry')
    const owned = backend.open('gps', 1, entry)
    const source = owned.grant()
    if (source.via !== 'inherit') throw new Error('expected a descriptor')
    const lease = { live: true, fence: 1 }
    const handle = adopt(grantOf(owned, source, source.fd), lease, { system: null, broker: null })
    const other = openSync(join(links, 'gps'), constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK)
    const read = (): string => {
      const bytes = Buffer.alloc(65_536)
      try {
        return bytes.toString('latin1', 0, readSync(other, bytes))
      } catch {
        return ''
      }
    }
    const leave = () => {
      closeSync(other)
      owned.close()
    }
    return { handle, lease, type: (text: string) => writeSync(other, text), read, leave }
  }

  test('is a duplex stream that opens and closes as the package does', async () => {
    const { handle, type, read, leave } = line()
    const port = withHandles(handlesOf(handle), () => new SerialPort({ path: '/dev/ttyUSB0', baudRate: 9600 }))
    port.write('early,')
    await new Promise((done) => port.once('open', done))
    expect([port.isOpen, port.path, port.baudRate]).toEqual([true, '/dev/ttyUSB0', 9600])
    let got = ''
    port.on('data', (bytes: Buffer) => {
      got += bytes.toString()
    })
    type('hello')
    await expect.poll(() => got).toBe('hello')
    await new Promise((done) => port.write('late', done))
    let heard = ''
    await expect
      .poll(() => {
        heard += read()
        return heard
      })
      .toBe('early,late')
    expect(await withHandles(handlesOf(handle), () => SerialPort.list())).toEqual([{ path: 'gps' }])
    expect(await new Promise((done) => port.set({ dtr: true }, done))).toMatchObject({
      message: expect.stringContaining('no modem lines'),
    })
    await new Promise((done) => {
      port.once('close', done)
      port.close()
    })
    expect(port.isOpen).toBe(false)
    expect(await new Promise((done) => port.close(done))).toMatchObject({ message: 'Port is not open' })
    leave()
  })

  test('open() by hand, with a path as first argument, and without a handle', async () => {
    const { handle, lease, type, leave } = line()
    const port = withHandles(handlesOf(handle), () => new SerialPort('gps', { path: '', autoOpen: false }))
    expect(port.isOpen).toBe(false)
    const failed = new Promise((done) =>
      withHandles(handlesOf(), () => new SerialPort({ path: 'gps' }).once('error', done)),
    )
    expect(await failed).toMatchObject({ message: expect.stringContaining('the program has no serial handle') })
    await new Promise((done) => withHandles(handlesOf(handle), () => port.open(done)))
    const first = new Promise((done) => port.once('data', (bytes) => done(String(bytes))))
    type('x')
    expect(await first).toBe('x')
    // the port of a parked program emits neither data nor an error
    lease.live = false
    port.on('error', (error) => expect.fail(String(error)))
    type('for the successor')
    await sleep(20)
    expect(port.destroyed).toBe(false)
    leave()
  })
})
