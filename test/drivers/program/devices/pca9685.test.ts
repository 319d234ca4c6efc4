import { afterAll, expect, test } from 'vitest'
import { HardwareError } from '../../../../drivers/errors.ts'
import { Pca9685, Servo } from '../../../../drivers/index.ts'
import type { I2cDevice } from '../../../../drivers/program/handle.ts'
import { simulatedChips } from '../../chips.ts'
import { temporary } from '../../host.ts'

const ADDRESS = 0x40
const folder = temporary()
afterAll(() => folder.remove())

function chip() {
  const { world, devices } = simulatedChips(folder.path, { [ADDRESS]: 'pca9685' })
  const device = devices[0] as I2cDevice
  const now = () => world.chip(`chip${ADDRESS}`) as { [key: string]: unknown; duties: number[]; initWrites: number }
  const register = (at: number) => device.writeRead(Uint8Array.of(at), 1)[0]
  return { world, device, now, register }
}

test('the simulated chip has the reset values of the data sheet', () => {
  const { now, register, device } = chip()
  expect([0x00, 0x01, 0x02, 0x05, 0x06, 0x09, 0x45, 0xfe, 0xfa].map(register)).toEqual([
    0x11, 0x04, 0xe2, 0xe0, 0, 0x10, 0x10, 0x1e, 0,
  ])
  expect(now()).toMatchObject({ asleep: true, initWrites: 0 })
  // 7.3.5: locked while it is awake
  device.write(Uint8Array.of(0x00, 0x01))
  device.write(Uint8Array.of(0xfe, 0x79))
  expect(register(0xfe)).toBe(0x1e)
  // without auto-increment every byte goes to the same register
  device.write(Uint8Array.of(0x06, 1, 2, 3))
  expect([0x06, 0x07].map(register)).toEqual([3, 0])
  device.write(Uint8Array.of(0x00, 0x21))
  device.write(Uint8Array.of(0xfa, 0, 0, 0, 8))
  expect(now().duties).toEqual(Array(16).fill(0.5))
  expect(device.read(2)).toEqual(Uint8Array.of(0x1e, 0))
})

test('faults are injected by name', () => {
  const { world, device } = chip()
  world.poke(`chip${ADDRESS}`, 'nack-next', true)
  expect(() => device.read(1)).toThrow(expect.objectContaining({ kind: 'no-ack' }))
  world.poke(`chip${ADDRESS}`, 'stuck-bus', true)
  expect(() => device.read(1)).toThrow(expect.objectContaining({ kind: 'bus' }))
  expect(() => world.poke(`chip${ADDRESS}`, 'stuck-bus', 1)).toThrow(HardwareError)
})

test('a new chip is configured and drives servos', () => {
  const { device, now } = chip()
  const driver = new Pca9685(device, { frequencyHz: 50 })
  expect(now()).toMatchObject({ asleep: false })
  expect(now().frequencyHz).toBeCloseTo(50, 0)
  const servo = new Servo(driver.channel(3))
  servo.to(90)
  const { frequencyHz, duties } = now() as unknown as { frequencyHz: number; duties: number[] }
  expect(((duties[3] as number) / frequencyHz) * 1000).toBeCloseTo(1.5, 2)
  expect(duties.filter((duty) => duty > 0)).toHaveLength(1)
})

test('0 is full off, 1 is full on, and each write is one transfer', () => {
  const { device, now, register } = chip()
  const channel = new Pca9685(device, { frequencyHz: 1000 }).channel(15)
  for (const [duty, bytes] of [
    [1, [0, 0x10, 0, 0]],
    [0, [0, 0, 0, 0x10]],
    [0.5, [0, 0, 0, 8]],
    [1 / 4096, [0, 0, 1, 0]],
  ] as const) {
    channel.write(duty)
    expect(now().duties[15]).toBeCloseTo(duty, 6)
    expect([0x42, 0x43, 0x44, 0x45].map(register)).toEqual(bytes)
    expect(channel.value).toBe(duty)
  }
  for (const bad of [-0.1, 1.1, Number.NaN]) {
    expect(() => channel.write(bad)).toThrow(expect.objectContaining({ kind: 'other' }))
  }
  channel.close()
  expect(() => channel.write(0)).toThrow(expect.objectContaining({ kind: 'revoked' }))
})

test('HANDLES 12.14: a successor writes nothing to a chip that runs at its frequency', () => {
  const { device, now } = chip()
  new Pca9685(device, { frequencyHz: 50 }).channel(2).write(0.25)
  const before = now()
  for (let swap = 0; swap < 3; swap++) {
    const successor = new Pca9685(device, { frequencyHz: 50 }).channel(2)
    expect(successor.value).toBe(0.25)
  }
  expect(now()).toEqual(before)
})

test('a new frequency restarts the running channels, and adopt accepts any frequency', () => {
  const { device, now } = chip()
  new Pca9685(device, { frequencyHz: 50 }).channel(0).write(0.5)
  const { initWrites } = now()
  const adopted = new Pca9685(device, { frequencyHz: 400, adopt: true }).channel(0)
  expect(now().initWrites).toBe(initWrites)
  expect(adopted.periodNs / 1e6).toBeCloseTo(20, 0)
  const faster = new Pca9685(device, { frequencyHz: 400 }).channel(0)
  expect(faster.periodNs / 1e6).toBeCloseTo(2.5, 1)
  // the restart bit is cleared: the pulses continue
  expect(device.writeRead(Uint8Array.of(0), 1)[0]).toBe(0x21)
  expect(now().duties[0]).toBe(0.5)
})

test.each([23, 1600, 0, -50, Number.NaN])('a frequency of %d Hz is refused', (frequencyHz) => {
  expect(() => new Pca9685(chip().device, { frequencyHz })).toThrow(expect.objectContaining({ kind: 'other' }))
})

test('channel 16 is refused', () => {
  const driver = new Pca9685(chip().device, { frequencyHz: 50 })
  expect(() => driver.channel(16)).toThrow(/from 0 to 15, got 16/)
})

test.each([
  // 7.3.5: round(osc / (4096 * rate)) - 1
  [25_000_000, 200, 30, 30],
  [25_000_000, 50, 121, 50],
  [26_200_000, 50, 127, 50],
  [23_500_000, 60, 95, 60],
  [25_000_000, 1526, 3, 1526],
  [25_000_000, 24, 253, 24],
])('7.3.5: an oscillator of %d Hz at %d Hz has the prescale value %d', (oscillatorHz, frequencyHz, prescale) => {
  const { device, register, world, now } = chip()
  world.poke(`chip${ADDRESS}`, 'oscillator', oscillatorHz)
  const { periodNs } = new Pca9685(device, { frequencyHz, oscillatorHz }).channel(0)
  expect(register(0xfe)).toBe(prescale)
  expect(periodNs).toBeCloseTo(((prescale + 1) * 4096 * 1e9) / oscillatorHz, -1)
  // the period of the channels is that of the chip
  expect(now().frequencyHz).toBeCloseTo(1e9 / periodNs, 3)
})

test('a measured oscillator frequency gives exact pulses', () => {
  const { device, world, now } = chip()
  world.poke(`chip${ADDRESS}`, 'oscillator', 27_100_000)
  const pulseUs = () => ((now().duties[0] ?? 0) / (now().frequencyHz as number)) * 1e6
  new Servo(new Pca9685(device, { frequencyHz: 50 }).channel(0)).to(90)
  expect(Math.abs(pulseUs() - 1500)).toBeGreaterThan(100)
  const oscillatorHz = Pca9685.oscillatorHz(50, now().frequencyHz as number)
  expect(oscillatorHz).toBe(27_100_000)
  const calibrated = new Pca9685(device, { frequencyHz: 50, oscillatorHz })
  expect(now().frequencyHz).toBeCloseTo(50, 0)
  for (const [degrees, us] of [
    [0, 500],
    [90, 1500],
    [180, 2500],
  ] as const) {
    calibrated.servo(0).write(degrees)
    expect(Math.abs(pulseUs() - us)).toBeLessThan(5)
  }
  // a second measurement confirms the first
  expect(Pca9685.oscillatorHz(50, now().frequencyHz as number, oscillatorHz)).toBe(oscillatorHz)
})

test('a servo with calibration: no pulse lies outside of its limits', () => {
  const { device, now } = chip()
  const driver = new Pca9685(device, { frequencyHz: 50 })
  const steps = (channel: number) => Math.round((now().duties[channel] ?? 0) * 4096)
  // 122 * 4096 / 25 MHz = 19988.48 us: a step has 4.88 us
  const stepUs = 19988.48 / 4096
  const plain = { minUs: 600, maxUs: 2400, degrees: [-90, 90] } as const
  const arm = driver.servo(0, plain)
  const trimmed = driver.servo(1, { ...plain, trimUs: -40 })
  const turned = driver.servo(2, { ...plain, reversed: true, trimUs: 25 })
  for (const degrees of [-90, -45, 0, 30, 90]) {
    for (const servo of [arm, trimmed, turned]) servo.write(degrees)
    const us = 1500 + degrees * 10
    const within = (wanted: number) => Math.min(2400, Math.max(600, wanted))
    expect(Math.abs(steps(0) * stepUs - us)).toBeLessThanOrEqual(stepUs)
    expect(Math.abs(steps(1) * stepUs - within(us - 40))).toBeLessThanOrEqual(stepUs)
    expect(Math.abs(steps(2) * stepUs - within(3000 - us + 25))).toBeLessThanOrEqual(stepUs)
    for (const channel of [0, 1, 2]) {
      expect(steps(channel) * stepUs).toBeGreaterThanOrEqual(600)
      expect(steps(channel) * stepUs).toBeLessThanOrEqual(2400)
    }
    expect(arm.value).toBeCloseTo(degrees, 0)
    if (Math.abs(degrees) < 80) for (const { value } of [trimmed, turned]) expect(value).toBeCloseTo(degrees, 0)
  }
  arm.write(500)
  expect(steps(0)).toBe(Math.floor(2400 / stepUs))
  expect([arm.kind, arm.range, arm.name]).toEqual(['servo', [-90, 90], `${device.name}#0`])
  // a successor reads the angle from the chip, and a Servo on the channel moves in degrees
  const successor = new Servo(new Pca9685(device, { frequencyHz: 50 }).servo(1, { ...plain, trimUs: -40 }))
  expect(successor.degrees).toBeCloseTo(90, 0)
  successor.center()
  expect(successor.degrees).toBeCloseTo(0, 0)
  arm.close()
  expect(() => arm.write(0)).toThrow(expect.objectContaining({ kind: 'revoked' }))
})

test('an invalid calibration is refused', () => {
  const { device } = chip()
  const driver = new Pca9685(device, { frequencyHz: 50 })
  const refused = (calibration: object, message: string) =>
    expect(() => driver.servo(0, calibration)).toThrow(expect.objectContaining({ kind: 'other', message }))
  const name = `${device.name}#0`
  refused({ minUs: 2500, maxUs: 500 }, `${name}: expected minUs below maxUs, got 2500 and 500`)
  refused({ degrees: [180, 0] }, `${name}: expected the lower angle first, got [180,0]`)
  refused({ maxUs: 20_000 }, `${name}: expected a maxUs below the period (19988.48 us), got 20000`)
  refused({ trimUs: Number.NaN }, `${name}: expected a trimUs below maxUs - minUs, got NaN`)
  expect(() => driver.servo(16)).toThrow(/from 0 to 15, got 16/)
  expect(() => driver.servo(0).write(Number.NaN)).toThrow(/expected degrees, got NaN/)
  expect(() => new Pca9685(device, { frequencyHz: 50, oscillatorHz: 25 })).toThrow(/an oscillator of 1 to 50 MHz/)
  expect(() => new Pca9685(device, { frequencyHz: 2000, oscillatorHz: 30e6 })).toThrow(/from 29 to 1832 Hz, got 2000/)
  expect(() => Pca9685.oscillatorHz(50, 0)).toThrow(RangeError)
  expect(() => Pca9685.oscillatorHz(0, 50)).toThrow(RangeError)
})
