/** i2cBus with simulated chips, and compared with the package i2c-bus, whose interface it has. */
import { createRequire } from 'node:module'
import Sensor from 'i2c-mpu6050'
import { afterAll, expect, test } from 'vitest'
import { i2cBus } from '../../../../drivers/index.ts'
import type { I2cDevice } from '../../../../drivers/program/handle.ts'
import { paperHandle } from '../../../../runtime/sdk/dummies.ts'
import { lease, simulatedChips } from '../../chips.ts'
import { temporary } from '../../host.ts'

const IMU = 0x68
const PWM = 0x40
const NOBODY = 0x50
const folder = temporary()
afterAll(() => folder.remove())

function bus() {
  const { world, devices } = simulatedChips(folder.path, { [IMU]: 'mpu6050', [PWM]: 'pca9685' })
  return { world, bus: i2cBus(...devices) }
}

test('the npm package i2c-mpu6050 runs on it unchanged', async () => {
  const { bus: it, world } = bus()
  const sensor = new Sensor(it, IMU)
  world.poke(`chip${IMU}`, 'accel', [0, 0.5, -1])
  world.poke(`chip${IMU}`, 'gyro', [10, -20, 0])
  world.poke(`chip${IMU}`, 'temp', 36.53)
  const wanted = {
    accel: { x: 0, y: 0.5, z: -1 },
    gyro: { x: 10, y: -20, z: 0 },
    temp: 36.53,
    rotation: { x: expect.closeTo(-26.565, 3), y: expect.closeTo(0, 3) },
  }
  expect(sensor.readSync()).toEqual(wanted)
  const [error, measured] = await new Promise<unknown[]>((resolve) => sensor.read((...given) => resolve(given)))
  expect([error, measured]).toEqual([null, wanted])
  world.poke(`chip${IMU}`, 'nack-next', true)
  expect(() => sensor.readSync()).toThrow(expect.objectContaining({ code: 'ENXIO' }))
})

test('synchronous calls reach the chip at their address', () => {
  const { bus: it } = bus()
  expect(it.readByteSync(IMU, 0x75)).toBe(0x68)
  expect(it.readByteSync(PWM, 0xfe)).toBe(0x1e)
  expect(it.writeByteSync(IMU, 0x6b, 0)).toBe(it)
  it.writeWordSync(IMU, 0x1b, 0x1008)
  expect(it.readWordSync(IMU, 0x1b)).toBe(0x1008)
  it.writeI2cBlockSync(IMU, 0x19, 2, Buffer.of(7, 6, 5))
  const buffer = Buffer.alloc(8)
  expect(it.readI2cBlockSync(IMU, 0x19, 2, buffer)).toBe(2)
  expect([...buffer]).toEqual([7, 6, 0, 0, 0, 0, 0, 0])
  it.sendByteSync(IMU, 0x75)
  expect(it.receiveByteSync(IMU)).toBe(0x68)
  expect(it.i2cWriteSync(IMU, 1, Buffer.of(0x19, 9))).toBe(1)
  expect(it.i2cReadSync(IMU, 2, buffer)).toBe(2)
  expect([...buffer.subarray(0, 3)]).toEqual([7, 6, 0])
  it.writeQuickSync(IMU, 0)
  expect(() => it.writeQuickSync(IMU, 1)).toThrow(expect.objectContaining({ kind: 'unsupported' }))
  expect(it.i2cFuncsSync()).toMatchObject({ i2c: true, smbusReadI2cBlock: true })
  it.closeSync()
  expect(it.readByteSync(IMU, 0x75)).toBe(0x68)
})

test('callbacks come later, with the same arguments as in i2c-bus', async () => {
  const { bus: it } = bus()
  const order: string[] = []
  const [error, byte] = await new Promise<[Error | null, number]>((resolve) => {
    it.readByte(IMU, 0x75, (...given) => {
      order.push('called')
      resolve(given)
    })
    order.push('returned')
  })
  expect([error, byte, order]).toEqual([null, 0x68, ['returned', 'called']])
  const buffer = Buffer.alloc(2)
  const moved = await new Promise((resolve) =>
    it.i2cWrite(IMU, 1, Buffer.of(0x75), () => it.i2cRead(IMU, 1, buffer, (...given) => resolve(given))),
  )
  expect(moved).toEqual([null, 1, Buffer.of(0x68, 0)])
  const refused = await new Promise<Error & { code?: string }>((resolve) =>
    it.writeByte(NOBODY, 1, 2, (failure) => resolve(failure as Error)),
  )
  expect(refused).toMatchObject({ kind: 'no-ack', code: 'ENXIO' })
  // an invalid argument throws at once
  expect(() => it.readByte(IMU, 256, () => {})).toThrow('Invalid byte 256')
  expect(await new Promise((resolve) => it.scan((...given) => resolve(given)))).toEqual([null, [PWM, IMU]])
})

test('promises resolve to the same values as in i2c-bus', async () => {
  const it = bus().bus.promisifiedBus()
  const buffer = Buffer.alloc(4)
  expect(await it.i2cWrite(IMU, 1, Buffer.of(0x75))).toMatchObject({ bytesWritten: 1 })
  expect(await it.i2cRead(IMU, 1, buffer)).toEqual({ bytesRead: 1, buffer })
  expect(await it.readByte(IMU, 0x75)).toBe(0x68)
  await it.writeByte(IMU, 0x19, 3)
  await it.writeWord(IMU, 0x1b, 0x1810)
  expect(await it.readWord(IMU, 0x1b)).toBe(0x1810)
  expect(await it.writeI2cBlock(IMU, 0x19, 1, Buffer.of(4))).toMatchObject({ bytesWritten: 1 })
  expect(await it.readI2cBlock(IMU, 0x19, 1, buffer)).toMatchObject({ bytesRead: 1 })
  expect(buffer[0]).toBe(4)
  await it.sendByte(IMU, 0x75)
  expect(await it.receiveByte(IMU)).toBe(0x68)
  expect(await it.scan(0x60, 0x70)).toEqual([IMU])
  await expect(it.readByte(NOBODY, 0)).rejects.toMatchObject({ kind: 'no-ack', code: 'ENXIO' })
  expect(it.bus().promisifiedBus()).toBe(it)
  await it.close()
})

test('an address that was not granted fails as one without a chip does', () => {
  const { bus: it, world } = bus()
  expect(() => it.readByteSync(NOBODY, 0)).toThrow(
    expect.objectContaining({
      kind: 'no-ack',
      code: 'ENXIO',
      message: expect.stringContaining('no handle of this program has the address 0x50'),
    }),
  )
  expect(it.scanSync(NOBODY)).toEqual([])
  world.poke(`chip${IMU}`, 'nack-next', 2)
  expect(it.scanSync()).toEqual([PWM])
  expect(() => it.readByteSync(IMU, 0)).toThrow(expect.objectContaining({ kind: 'no-ack', code: 'ENXIO' }))
  expect(it.scanSync(0x41, 0x77)).toEqual([IMU])
})

test('without a lease transfers are refused', () => {
  const { bus: it } = bus()
  lease.live = false
  try {
    expect(() => it.readByteSync(IMU, 0x75)).toThrow(expect.objectContaining({ kind: 'revoked' }))
  } finally {
    lease.live = true
  }
})

test.each([
  ['Invalid I2C address 128', (it: ReturnType<typeof i2cBus>) => it.readByteSync(128, 0)],
  ['Invalid byte -1', (it: ReturnType<typeof i2cBus>) => it.writeByteSync(IMU, 0, -1)],
  ['Invalid word 65536', (it: ReturnType<typeof i2cBus>) => it.writeWordSync(IMU, 0, 65536)],
  ['Invalid buffer length 33', (it: ReturnType<typeof i2cBus>) => it.readI2cBlockSync(IMU, 0, 33, Buffer.alloc(40))],
  ['Buffer must contain at least 2', (it: ReturnType<typeof i2cBus>) => it.i2cReadSync(IMU, 2, Buffer.alloc(1))],
])('%s', (message, call) => {
  expect(() => call(bus().bus)).toThrow(message)
})

test('two handles with the same address are on different buses and are refused', () => {
  const { devices } = simulatedChips(folder.path, { [IMU]: 'mpu6050' })
  const [imu] = devices as [I2cDevice]
  expect(() => i2cBus(imu, imu)).toThrow(/has the same address as/)
})

test('with `describe` every address reads zeros', () => {
  const paper = ['one', 'two'].map((name) => paperHandle(name, 'i2c') as I2cDevice)
  expect(i2cBus(...paper).readWordSync(IMU, 0)).toBe(0)
})

/** Calls that the package's documentation calls untested, and that use an address no handle can have. */
const LEFT_OUT = ['readBlock', 'writeBlock', 'readBlockSync', 'writeBlockSync', 'deviceId', 'deviceIdSync']

/** The package is compiled at installation, which can be switched off. */
const compiled = (() => {
  try {
    createRequire(import.meta.url)('i2c-bus')
    return true
  } catch {
    return false
  }
})()

test.runIf(compiled)('it has the methods of i2c-bus', () => {
  const { openSync } = createRequire(import.meta.url)('i2c-bus') as {
    openSync(bus: number): { promisifiedBus(): object }
  }
  const methods = (object: object) =>
    Object.getOwnPropertyNames(Object.getPrototypeOf(object)).filter((name) => !LEFT_OUT.includes(name))
  const theirs = openSync(1)
  const { bus: ours } = bus()
  expect(methods(ours)).toEqual(expect.arrayContaining(methods(theirs)))
  expect(methods(ours.promisifiedBus())).toEqual(expect.arrayContaining(methods(theirs.promisifiedBus())))
})
