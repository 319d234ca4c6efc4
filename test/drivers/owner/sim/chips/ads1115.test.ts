import { expect, test } from 'vitest'
import { type Ads1115State, ads1115 } from '../../../../../drivers/owner/sim/chips/ads1115.ts'
import { SimulatedI2cBus } from '../../../../../drivers/owner/sim/i2c.ts'

const ADDRESS = 0x48

function placed(): SimulatedI2cBus {
  const bus = new SimulatedI2cBus(1)
  bus.place(ADDRESS, 'ads1115')
  return bus
}

const read = (bus: SimulatedI2cBus, register: number): number =>
  new DataView(bus.transfer(ADDRESS, Uint8Array.of(register), 2).buffer).getInt16(0)
const configure = (bus: SimulatedI2cBus, config: number) =>
  bus.transfer(ADDRESS, Uint8Array.of(0x01, config >> 8, config & 0xff), 0)

test('ADS1115: reset values', () => {
  const bus = placed()
  expect([0, 1, 2, 3].map((register) => read(bus, register) & 0xffff)).toEqual([0, 0x8583, 0x8000, 0x7fff])
  // the pointer stays, and after two bytes the bus reads as ones
  expect([...bus.transfer(ADDRESS, null, 3)]).toEqual([0x7f, 0xff, 0xff])
})

test('ADS1115: each start makes one conversion, of the selected input in the selected range', () => {
  const bus = placed()
  bus.poke(ADDRESS, 'volts', [1, 2, -0.1, 3.3])
  expect(read(bus, 0)).toBe(0)
  for (const [config, steps] of [
    // single-ended inputs at 4.096 V
    [0xc383, 8000],
    [0xd383, 16000],
    [0xe383, -800],
    [0xf383, 26400],
    // pairs
    [0x8383, -8000],
    [0x9383, -18400],
    [0xa383, -10400],
    [0xb383, -27200],
    // other ranges, clipped at their ends
    [0xd183, 10667],
    [0xd583, 32000],
    [0xd783, 0x7fff],
    [0xb983, -0x8000],
    [0xfb83, 0x7fff],
  ] as const) {
    configure(bus, config)
    expect(read(bus, 0), config.toString(16)).toBe(steps)
    expect(read(bus, 1) & 0xffff).toBe(config)
  }
  // without OS there is no conversion
  configure(bus, 0x4383)
  expect(bus.snapshot(ADDRESS)).toMatchObject({ conversions: 13 })
})

test('ADS1115: in continuous mode a read gets the newest value, and OS reads 0', () => {
  const bus = placed()
  configure(bus, 0xc283)
  for (const volts of [0.5, 1.5]) {
    bus.poke(ADDRESS, 'ain0', volts)
    expect(read(bus, 0)).toBe(volts * 8000)
  }
  expect(read(bus, 1) & 0xffff).toBe(0x4283)
})

test('ADS1115: the conversion register is read-only', () => {
  const bus = placed()
  bus.transfer(ADDRESS, Uint8Array.of(0, 1, 2), 0)
  expect(read(bus, 0)).toBe(0)
})

test('HANDLES 9.8: an operation on an ADS1115 does not change the old value', () => {
  const before: Ads1115State = structuredClone(ads1115.initial)
  ads1115.write(ads1115.initial, Uint8Array.of(1, 0xc3, 0x83))
  ads1115.poke(ads1115.initial, 'ain1', 1)
  expect(ads1115.initial).toEqual(before)
  for (const [what, value] of [
    ['volts', [1, 2, 3]],
    ['ain4', 1],
    ['ain0', 'high'],
  ] as const) {
    expect(ads1115.poke(ads1115.initial, what, value)).toBeNull()
  }
})
