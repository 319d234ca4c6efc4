import { afterAll, expect, test } from 'vitest'
import { HardwareError } from '../../drivers/errors.ts'
import type { I2cDevice } from '../../drivers/handle.ts'
import { Pca9685, Servo } from '../../drivers/index.ts'
import { simulatedChips } from './chips.ts'
import { temporary } from './host.ts'

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

test('faults are named pokes', () => {
  const { world, device } = chip()
  world.poke(`chip${ADDRESS}`, 'nack-next', true)
  expect(() => device.read(1)).toThrow(expect.objectContaining({ kind: 'no-ack' }))
  world.poke(`chip${ADDRESS}`, 'stuck-bus', true)
  expect(() => device.read(1)).toThrow(expect.objectContaining({ kind: 'bus' }))
  expect(() => world.poke(`chip${ADDRESS}`, 'stuck-bus', 1)).toThrow(HardwareError)
})

test('a new chip is configured, and drives servos on its channels', () => {
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

test('HANDLES 12.14: a successor writes nothing to a chip that runs as it should', () => {
  const { device, now } = chip()
  new Pca9685(device, { frequencyHz: 50 }).channel(2).write(0.25)
  const before = now()
  for (let swap = 0; swap < 3; swap++) {
    const successor = new Pca9685(device, { frequencyHz: 50 }).channel(2)
    expect(successor.value).toBe(0.25)
  }
  expect(now()).toEqual(before)
})

test('another frequency goes on with what ran, and adopt takes any', () => {
  const { device, now } = chip()
  new Pca9685(device, { frequencyHz: 50 }).channel(0).write(0.5)
  const { initWrites } = now()
  const adopted = new Pca9685(device, { frequencyHz: 400, adopt: true }).channel(0)
  expect(now().initWrites).toBe(initWrites)
  expect(adopted.periodNs / 1e6).toBeCloseTo(20, 0)
  const faster = new Pca9685(device, { frequencyHz: 400 }).channel(0)
  expect(faster.periodNs / 1e6).toBeCloseTo(2.5, 1)
  // the restart bit is cleared: its pulses go on
  expect(device.writeRead(Uint8Array.of(0), 1)[0]).toBe(0x21)
  expect(now().duties[0]).toBe(0.5)
})

test.each([23, 1600, 0, -50, Number.NaN])('a frequency of %d Hz is refused', (frequencyHz) => {
  expect(() => new Pca9685(chip().device, { frequencyHz })).toThrow(expect.objectContaining({ kind: 'other' }))
})

test('a channel of 16 is refused', () => {
  const driver = new Pca9685(chip().device, { frequencyHz: 50 })
  expect(() => driver.channel(16)).toThrow(/from 0 to 15, got 16/)
})
