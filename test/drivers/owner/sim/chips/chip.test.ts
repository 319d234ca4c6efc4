import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { HardwareError } from '../../../../../drivers/errors.ts'
import { ads1115 } from '../../../../../drivers/owner/sim/chips/ads1115.ts'
import { bme280 } from '../../../../../drivers/owner/sim/chips/bme280.ts'
import type { ChipModel } from '../../../../../drivers/owner/sim/chips/chip.ts'
import { eeprom24c32 } from '../../../../../drivers/owner/sim/chips/eeprom24c32.ts'
import { mpu6050 } from '../../../../../drivers/owner/sim/chips/mpu6050.ts'
import { pca9685 } from '../../../../../drivers/owner/sim/chips/pca9685.ts'
import { pcf8574 } from '../../../../../drivers/owner/sim/chips/pcf8574.ts'
import { ssd1306 } from '../../../../../drivers/owner/sim/chips/ssd1306.ts'
import { vl53l0x } from '../../../../../drivers/owner/sim/chips/vl53l0x.ts'
import { SimulatedI2cBus } from '../../../../../drivers/owner/sim/i2c.ts'

const AWAKE = Uint8Array.from([0x6b, 0x00])

function placed(): SimulatedI2cBus {
  const bus = new SimulatedI2cBus(1)
  bus.place(0x68, 'mpu6050')
  return bus
}

function read(bus: SimulatedI2cBus, register: number, length: number): number[] {
  return [...bus.transfer(0x68, Uint8Array.from([register]), length)]
}

/** The 14 bytes of a burst read from ACCEL_XOUT_H: accel, temperature, gyro; big endian. */
function burst(bus: SimulatedI2cBus): number[] {
  const view = new DataView(Uint8Array.from(read(bus, 0x3b, 14)).buffer)
  return [0, 2, 4, 6, 8, 10, 12].map((at) => view.getInt16(at))
}

function kindOf(call: () => unknown): string {
  try {
    call()
  } catch (error) {
    return error instanceof HardwareError ? error.kind : String(error)
  }
  return 'none'
}

test('MPU6050: identity and reset values', () => {
  const bus = placed()
  expect(read(bus, 0x75, 1)).toEqual([0x68])
  expect(read(bus, 0x6b, 1)).toEqual([0x40])
  expect(read(bus, 0x1b, 2)).toEqual([0, 0])
  expect(bus.snapshot(0x68)).toMatchObject({ asleep: true, initWrites: 0 })
})

test('MPU6050: measures only when awake, in the chosen ranges', () => {
  const bus = placed()
  bus.poke(0x68, 'accel', [1, -0.5, 0.25])
  bus.poke(0x68, 'gyro', [100, -50, 0])
  bus.poke(0x68, 'temp', 36.53)
  expect(burst(bus)).toEqual([0, 0, 0, 0, 0, 0, 0])
  bus.transfer(0x68, AWAKE, 0)
  expect(burst(bus)).toEqual([16384, -8192, 4096, 0, 13100, -6550, 0])
  bus.transfer(0x68, Uint8Array.from([0x1b, 0x18, 0x10]), 0)
  expect(burst(bus)).toEqual([4096, -2048, 1024, 0, 1640, -820, 0])
  bus.poke(0x68, 'temp', 20)
  expect(burst(bus)[3]).toBe(Math.round((20 - 36.53) * 340))
  expect(bus.snapshot(0x68)).toMatchObject({ asleep: false, initWrites: 1, accel: [1, -0.5, 0.25] })
})

test('MPU6050: keeps its last values in sleep, and loses all at reset', () => {
  const bus = placed()
  bus.transfer(0x68, AWAKE, 0)
  bus.transfer(0x68, Uint8Array.from([0x6b, 0x40]), 0)
  bus.poke(0x68, 'accel', [2, 2, 2])
  expect(burst(bus).slice(0, 3)).toEqual([0, 0, 16384])
  bus.transfer(0x68, Uint8Array.from([0x6b, 0x80]), 0)
  expect(burst(bus).slice(0, 3)).toEqual([0, 0, 0])
  expect(bus.snapshot(0x68)).toMatchObject({ asleep: true, initWrites: 3 })
})

test('MPU6050: saturates, and its data registers are read-only', () => {
  const bus = placed()
  bus.transfer(0x68, AWAKE, 0)
  bus.poke(0x68, 'accel', [100, -100, 0])
  bus.transfer(0x68, Uint8Array.from([0x3b, 1, 2, 3]), 0)
  bus.transfer(0x68, Uint8Array.from([0x75, 1]), 0)
  expect(burst(bus).slice(0, 3)).toEqual([32767, -32768, 0])
  expect(read(bus, 0x75, 1)).toEqual([0x68])
})

test('MPU6050: a read continues where the last one ended', () => {
  const bus = placed()
  expect(read(bus, 0x74, 1)).toEqual([0])
  expect([...bus.transfer(0x68, null, 1)]).toEqual([0x68])
})

const MODELS = { ads1115, bme280, eeprom24c32, mpu6050, pca9685, pcf8574, ssd1306, vl53l0x }

test.each(Object.entries(MODELS))(
  'HANDLES 9.8: %s accepts any bytes, and an operation does not change the old value',
  (_, each) => {
    const model = each as ChipModel<unknown>
    const transfer = fc.oneof(
      fc.record({ write: fc.uint8Array({ maxLength: 40 }) }),
      // an existing register, and a value for it
      fc.record({ write: fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255)).map((bytes) => Uint8Array.from(bytes)) }),
      fc.record({ read: fc.nat(40) }),
    )
    fc.assert(
      fc.property(fc.array(transfer, { maxLength: 20 }), (transfers) => {
        let chip = model.initial
        for (const step of transfers) {
          const before = structuredClone(chip)
          const done = 'write' in step ? model.write(chip, step.write) : model.read(chip, step.read)
          expect(isDeepStrictEqual(chip, before)).toBe(true)
          if ('read' in step && 'bytes' in done) expect(done.bytes.length).toBe(step.read)
          chip = done.next
        }
        JSON.stringify(model.snapshot(chip))
      }),
      { numRuns: 20 },
    )
  },
)

test('HANDLES 9.8: every chip can be given faults: nack-next, bad-data, stuck-bus; an empty address gives no-ack', () => {
  const bus = placed()
  bus.poke(0x68, 'nack-next', 2)
  expect([1, 2, 3].map(() => kindOf(() => read(bus, 0x75, 1)))).toEqual(['no-ack', 'no-ack', 'none'])
  bus.poke(0x68, 'nack-next', true)
  expect([1, 2].map(() => kindOf(() => read(bus, 0x75, 1)))).toEqual(['no-ack', 'none'])
  bus.poke(0x68, 'stuck-bus', true)
  expect(kindOf(() => read(bus, 0x75, 1))).toBe('bus')
  // the stuck bus affects the other chips too
  expect(kindOf(() => bus.transfer(0x20, null, 1))).toBe('bus')
  bus.poke(0x68, 'stuck-bus', false)
  expect(kindOf(() => bus.transfer(0x20, null, 1))).toBe('no-ack')
  expect(read(bus, 0x75, 1)).toEqual([0x68])
  bus.poke(0x68, 'bad-data', 1)
  expect([read(bus, 0x75, 2), read(bus, 0x75, 1)]).toEqual([[0xff, 0xff], [0x68]])
  expect(bus.snapshot(0x68)).toMatchObject({ nacks: 0, bad: 0, stuck: false })
  for (const [what, value] of [
    ['bad-crc', true],
    ['bad-data', 'yes'],
    ['stuck-bus', 1],
    ['accel', [1, 2]],
    ['temp', 'hot'],
    ['nack-next', -1],
  ] as const) {
    expect(kindOf(() => bus.poke(0x68, what, value))).toBe('unsupported')
  }
  expect(kindOf(() => new SimulatedI2cBus(1).place(0x68, 'bmp280'))).toBe('no-device')
})
