/** Sensor devices on simulated chips: they read the poked values through the chip's registers. */
import fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import { Distance, Environment, Imu, LineSensor } from '../../../../drivers/index.ts'
import type { I2cDevice } from '../../../../drivers/program/handle.ts'
import { simulatedChips } from '../../chips.ts'
import { counted } from '../../counted.ts'
import { temporary } from '../../host.ts'

const folder = temporary()
afterAll(() => folder.remove())

function chip(model: string, address: number) {
  const { world, devices } = simulatedChips(folder.path, { [address]: model })
  const device = counted(devices[0] as I2cDevice)
  const name = `chip${address}`
  return {
    device,
    poke: (what: string, value: unknown) => world.poke(name, what, value),
    now: () => world.chip(name) as Record<string, unknown>,
    register: (at: number, length = 1) => [...device.writeRead(Uint8Array.of(at), length)],
  }
}

const environment = () => chip('bme280', 0x76)
const imu = () => chip('mpu6050', 0x68)
const distance = () => chip('vl53l0x', 0x29)
const line = () => chip('pcf8574', 0x20)

test('BME280: identity, reset values, and registers in pairs', () => {
  const { device, register } = environment()
  expect([0xd0, 0xf2, 0xf3, 0xf4, 0xf5].map((at) => register(at)[0])).toEqual([0x60, 0, 0, 0, 0])
  expect(register(0xf7, 8)).toEqual([0x80, 0, 0, 0x80, 0, 0, 0x80, 0])
  device.write(Uint8Array.of(0xf2, 1, 0xf5, 0x10))
  expect(register(0xf2, 4)).toEqual([1, 0, 0, 0x10])
  // calibration and identity are read-only
  device.write(Uint8Array.of(0x88, 0, 0xd0, 0))
  expect([register(0x88, 2), register(0xd0)]).toEqual([[0x70, 0x6b], [0x60]])
  device.write(Uint8Array.of(0xe0, 0xb6))
  expect(register(0xf2, 4)).toEqual([0, 0, 0, 0])
})

test("BME280: Bosch's example of its compensation (BMP280 data sheet, 3.12)", () => {
  const { device, poke, register } = environment()
  const it = new Environment(device)
  poke('temperature', 25.0825)
  poke('pressure', 100_653.27)
  const [p2 = 0, p1 = 0, p0 = 0, t2 = 0, t1 = 0, t0 = 0] = register(0xf7, 6)
  expect(Math.abs(((t2 << 12) | (t1 << 4) | (t0 >> 4)) - 519_888)).toBeLessThan(10)
  expect(Math.abs(((p2 << 12) | (p1 << 4) | (p0 >> 4)) - 415_148)).toBeLessThan(10)
  expect(it.read()?.temperature).toBeCloseTo(25.08, 2)
})

test('BME280: the device reads the poked values, to the resolution of the chip', () => {
  const { device, poke } = environment()
  const it = new Environment(device)
  const climate = fc.record({
    temperature: fc.double({ min: -40, max: 85, noNaN: true }),
    pressure: fc.double({ min: 30_000, max: 110_000, noNaN: true }),
    humidity: fc.double({ min: 0, max: 100, noNaN: true }),
  })
  fc.assert(
    fc.property(climate, (wanted) => {
      for (const [what, value] of Object.entries(wanted)) poke(what, value)
      const got = it.read()
      expect(Math.abs((got?.temperature ?? 1e9) - wanted.temperature)).toBeLessThan(0.01)
      expect(Math.abs((got?.pressure ?? 1e9) - wanted.pressure)).toBeLessThan(1)
      // at low temperatures the two formulas differ by this much
      expect(Math.abs((got?.humidity ?? 1e9) - wanted.humidity)).toBeLessThan(0.1)
    }),
    { numRuns: 100 },
  )
})

test('BME280: sleep, forced mode and skipped measurements (3.3 and 5.4)', () => {
  const { device, poke, register, now } = environment()
  poke('temperature', 30)
  expect(now()).toMatchObject({ asleep: true, temperature: 30 })
  expect(new Environment(device, { adopt: true }).read()).toBeNull()
  // ctrl_hum takes effect with the next write to ctrl_meas: humidity is skipped
  device.write(Uint8Array.of(0xf4, 0x25))
  device.write(Uint8Array.of(0xf2, 1))
  expect([register(0xf4)[0], register(0xfd, 2)]).toEqual([0x24, [0x80, 0]])
  expect(register(0xfa)[0]).not.toBe(0x80)
  // oversampling 1 gives 16 bits
  expect(register(0xfc)[0]).toBe(0)
  device.write(Uint8Array.of(0xf4, 0x25))
  expect(register(0xfd, 2)).not.toEqual([0x80, 0])
})

test('BME280: faults, limits and other chips', () => {
  const { device, poke } = environment()
  const it = new Environment(device)
  poke('bad-data', true)
  expect(() => it.read()).toThrow(expect.objectContaining({ kind: 'bus' }))
  poke('nack-next', true)
  expect(() => it.read()).toThrow(expect.objectContaining({ kind: 'no-ack' }))
  expect(it.read()?.humidity).toBeCloseTo(50, 1)
  // the chip lost its supply
  device.write(Uint8Array.of(0xe0, 0xb6))
  expect(it.read()).toBeNull()
  for (const [what, value] of [
    ['temperature', 86],
    ['temperature', Number.NaN],
    ['pressure', 29_999],
    ['humidity', '50'],
    ['wind', 1],
  ] as const) {
    expect(() => poke(what, value)).toThrow(expect.objectContaining({ kind: 'unsupported' }))
  }
})

test('MPU6050: the device reads the poked values in each range', () => {
  const { device, poke } = imu()
  for (const [accelRange, gyroRange] of [
    [2, 250],
    [4, 500],
    [8, 1000],
    [16, 2000],
  ] as const) {
    const it = new Imu(device, { accelRange, gyroRange })
    poke('accel', [0.9 * accelRange, -0.5, 1])
    poke('gyro', [-0.9 * gyroRange, 12.5, 0])
    poke('temp', 31.5)
    it.tick(0)
    expect(it.accel.x).toBeCloseTo(0.9 * accelRange, 3)
    expect(it.accel.y).toBeCloseTo(-0.5, 3)
    expect(it.gyro.x / gyroRange).toBeCloseTo(-0.9, 3)
    expect(it.gyro.y).toBeCloseTo(12.5, 1)
    expect(it.temperature).toBeCloseTo(31.5, 2)
  }
  expect(() => new Imu(device, { accelRange: 3 as 2 })).toThrow(
    'expected a range of the accelerometer of 2, 4, 8, 16, got 3',
  )
})

test('MPU6050: pitch and roll start from gravity, follow the gyroscope, and return to gravity', () => {
  const { device, poke } = imu()
  const it = new Imu(device)
  const radians = (30 * Math.PI) / 180
  poke('accel', [-Math.sin(radians), 0, Math.cos(radians)])
  it.tick(0.005)
  expect([it.pitch, it.roll].map(Math.round)).toEqual([30, 0])
  // 90 degrees/s for 0.1 s; gravity corrects the angle slowly
  poke('gyro', [0, 90, 0])
  for (let tick = 0; tick < 20; tick++) it.tick(0.005)
  expect(it.pitch).toBeGreaterThan(37)
  expect(it.pitch).toBeLessThan(39)
  poke('gyro', [0, 0, 0])
  for (let tick = 0; tick < 1000; tick++) it.tick(0.005)
  expect(it.pitch).toBeCloseTo(30, 1)
  const successor = new Imu(device, { pitch: it.pitch, roll: it.roll })
  poke('accel', [0, 0, 1])
  successor.tick(0.005)
  expect(successor.pitch).toBeGreaterThan(29)
})

test('MPU6050: a fault leaves pitch and roll unchanged', () => {
  const { device, poke } = imu()
  const it = new Imu(device)
  poke('accel', [0, 0.5, Math.sqrt(0.75)])
  it.tick(0.01)
  for (const [fault, kind] of [
    ['bad-data', 'bus'],
    ['nack-next', 'no-ack'],
  ] as const) {
    poke(fault, true)
    expect(() => it.tick(0.01)).toThrow(expect.objectContaining({ kind }))
    expect([it.roll, it.accel.y].map((value) => value.toFixed(1))).toEqual(['30.0', '0.5'])
  }
})

test('MPU6050: roll goes the short way round', () => {
  const { device, poke } = imu()
  const it = new Imu(device, { roll: 179 })
  const radians = (-179 * Math.PI) / 180
  poke('accel', [0, Math.sin(radians), Math.cos(radians)])
  for (let tick = 0; tick < 200; tick++) {
    it.tick(0.005)
    expect(Math.abs(it.roll)).toBeGreaterThan(178)
  }
  expect(it.roll).toBeLessThan(0)
})

test('VL53L0X: identity, single shot and back-to-back ranging', () => {
  const { device, poke, register, now } = distance()
  expect([0xc0, 0xc1, 0xc2, 0x51, 0x52, 0x61].map((at) => register(at)[0])).toEqual([0xee, 0xaa, 0x10, 0, 0x99, 0])
  poke('distance', 345)
  device.write(Uint8Array.of(0x00, 0x01))
  // without the interrupt, the range's status shows when it is complete
  expect([register(0x13), register(0x14)]).toEqual([[0], [0x59]])
  expect(register(0x13)).toEqual([0])
  expect([register(0x14)[0], register(0x1e, 2), now().ranging]).toEqual([0x59, [1, 0x59], 'idle'])
  device.write(Uint8Array.of(0x0a, 0x04))
  device.write(Uint8Array.of(0x00, 0x02))
  expect([register(0x13), register(0x13), register(0x13)]).toEqual([[0], [4], [4]])
  device.write(Uint8Array.of(0x0b, 1))
  expect([register(0x13), register(0x13), now().ranging]).toEqual([[0], [4], 'continuous'])
  device.write(Uint8Array.of(0x00, 0x01))
  expect(now().ranging).toBe('idle')
})

test('VL53L0X: the device reads the poked distance; null when out of range', () => {
  const { device, poke } = distance()
  const it = new Distance(device)
  expect([it.mm, it.cm]).toEqual([null, null])
  const next = () => {
    for (let look = 0; look < 3; look++) if (it.tick(0.01)) return it.mm
    throw new Error('no measurement')
  }
  for (const mm of [0, 30, 200, 1234, 2000]) {
    poke('distance', mm)
    expect(next()).toBe(mm)
  }
  expect(it.cm).toBe(200)
  for (const far of [2001, null]) {
    poke('distance', far)
    expect(next()).toBeNull()
  }
  expect(() => poke('distance', -1)).toThrow(expect.objectContaining({ kind: 'unsupported' }))
  expect(() => poke('mm', 1)).toThrow(expect.objectContaining({ kind: 'unsupported' }))
})

test('VL53L0X: a chip without measurements is started again after half a second', () => {
  const { device, poke, now } = distance()
  const it = new Distance(device)
  while (!it.tick(0.01)) {}
  // as after a loss of its supply
  device.write(Uint8Array.of(0x00, 0x01))
  poke('distance', 70)
  const { initWrites } = now()
  for (let tick = 0; tick < 49; tick++) it.tick(0.01)
  expect([it.mm, now().initWrites]).toEqual([200, initWrites])
  it.tick(0.02)
  expect([it.mm, now().ranging]).toEqual([null, 'continuous'])
  while (!it.tick(0.01)) {}
  expect(it.mm).toBe(70)
})

test('PCF8574: pins start as inputs, and a pin that the chip pulls down reads low', () => {
  const { device, poke, now } = line()
  poke('inputs', 0xa5)
  expect([...device.read(2)]).toEqual([0xa5, 0xa5])
  device.write(Uint8Array.of(0x0f))
  expect([...device.read(1)]).toEqual([0x05])
  expect(now()).toMatchObject({ latch: 0x0f, inputs: 0xa5 })
  expect(() => poke('inputs', 256)).toThrow(expect.objectContaining({ kind: 'unsupported' }))
  expect(() => poke('line', 'left')).toThrow(expect.objectContaining({ kind: 'unsupported' }))
})

test('a line sensor gives the position of the line, or null without one', () => {
  const { device, poke } = line()
  const bar = new LineSensor(device)
  for (const wanted of [-1, -0.5, 0, 0.3, 1]) {
    poke('line', wanted)
    expect(Math.abs((bar.position() ?? 9) - wanted)).toBeLessThan(0.15)
  }
  poke('line', null)
  expect(bar.position()).toBeNull()
  poke('line', 1.5)
  expect(bar.position()).toBeNull()
  poke('inputs', 0b1111_0111)
  const white = new LineSensor(device, { sensors: 4, lineLevel: 0 })
  expect([white.read(), white.position()]).toEqual([[false, false, false, true], 1])
  expect(device.writes).toBe(0)
  expect(() => new LineSensor(device, { sensors: 9 })).toThrow('expected from 2 to 8 sensors, got 9')
})

test.each([
  ['a BME280', (device: I2cDevice) => new Environment(device)],
  ['a VL53L0X', (device: I2cDevice) => new Distance(device)],
  ['an MPU6050', (device: I2cDevice) => new Imu(device)],
])('%s is not what another chip is, nor what nobody is', (what, make) => {
  const { device, poke } = what === 'an MPU6050' ? environment() : imu()
  poke('bad-data', true)
  expect(() => make(device)).toThrow(expect.objectContaining({ kind: 'no-device' }))
  poke('nack-next', true)
  expect(() => make(device)).toThrow(expect.objectContaining({ kind: 'no-ack' }))
  poke('stuck-bus', true)
  expect(() => make(device)).toThrow(expect.objectContaining({ kind: 'bus' }))
})
