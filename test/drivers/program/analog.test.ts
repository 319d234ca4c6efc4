import { describe, expect, test } from 'vitest'
import { parseBoard } from '../../../drivers/board/board.ts'
import { grantOf } from '../../../drivers/owner/backend.ts'
import { SimBackend } from '../../../drivers/owner/sim/backend.ts'
import { SimulatedI2cBus } from '../../../drivers/owner/sim/i2c.ts'
import { World } from '../../../drivers/owner/sim/world.ts'
import { AttachedAnalog } from '../../../drivers/program/analog.ts'
import { adoptBrokered } from '../../../drivers/program/broker/index.ts'
import type { Analog, Grant, I2cDevice, Lease } from '../../../drivers/program/handle.ts'
import { I2C_SMBUS_READ } from '../../../drivers/program/inherit/i2c.ts'
import { adopt, type System } from '../../../drivers/program/inherit/index.ts'

const boardOf = (handles: object, model = 'sim') => parseBoard(JSON.stringify({ model, handles }), 'board.json').handles
const input = (channel: number, more: object = {}) => ({ kind: 'analog', adc: 'ads1115', bus: 1, channel, ...more })

test('HANDLES 8.3: two handles may use one converter, but not the same input of it', () => {
  const board = boardOf({ pot: input(0), light: input(3, { fullScale: 2.048 }) })
  expect(board.pot).toEqual({ ...input(0), address: 0x48, fullScale: 4.096, via: 'broker' })
  expect(board.light).toMatchObject({ channel: 3, fullScale: 2.048 })
  expect(boardOf({ pot: input(0) }, 'pi4').pot).toMatchObject({ via: 'inherit' })
  const chip = { kind: 'i2c', bus: 1, address: '0x48', simulate: 'ads1115' }
  for (const [handles, message] of [
    [{ pot: input(0), again: input(0) }, 'i2c-1@0x48/ain0 is already used by "pot"'],
    [{ pot: input(0), chip }, 'i2c-1@0x48 is already used by "pot"'],
    [{ chip, pot: input(0) }, 'i2c-1@0x48 is already used by "chip"'],
    [{ pot: input(4) }, 'expected at most 3, got 4'],
    [{ pot: input(0, { fullScale: 5 }) }, 'expected one of 6.144, 4.096, 2.048, 1.024, 0.512, 0.256'],
    [{ pot: input(0, { address: '0x50' }) }, 'expected an address that an ADS1115 has, 0x48 to 0x4b, got 0x50'],
    [{ pot: input(0, { via: 'inherit' }) }, 'expected one of broker, got "inherit"'],
  ] as const) {
    expect(() => boardOf(handles)).toThrow(message)
  }
})

/** Handles of a simulated board in this process. */
function simulated(handles: object) {
  const world = new World()
  const backend = new SimBackend({ world, folder: null })
  const lease: Lease = { live: true, fence: 1 }
  backend.advance(1, [])
  const [pot, light] = Object.entries(boardOf(handles)).map(([name, entry], index) => {
    const owned = backend.open(name, index + 1, entry)
    const request = (_: number, op: number, fence: number, payload: Uint8Array) => owned.request(op, payload, fence)
    return adoptBrokered(grantOf(owned, owned.grant()), lease, { request }) as Analog
  })
  return { world, backend, lease, pot: pot as Analog, light: light as Analog }
}

const kindOf = (call: () => unknown): string => {
  try {
    call()
    return 'none'
  } catch (error) {
    return (error as { kind: string }).kind
  }
}

test('HANDLES 16.2: each read makes one conversion of its own input, whatever was read before', () => {
  const { world, backend, lease, pot, light } = simulated({ pot: input(0), light: input(3, { fullScale: 2.048 }) })
  expect([pot.kind, pot.fullScale, light.fullScale]).toEqual(['analog', 4.096, 2.048])
  world.poke('pot', 'volts', 1.65)
  world.poke('light', 'volts', 3)
  expect(pot.read()).toBeCloseTo(1.65, 3)
  // beyond its full scale
  expect(light.read()).toBeCloseTo(2.048, 3)
  world.poke('light', 'volts', -0.1)
  expect(light.read()).toBeCloseTo(-0.1, 3)
  expect(pot.read()).toBeCloseTo(1.65, 3)
  expect(world.chip('pot')).toMatchObject({ conversions: 4 })
  world.poke('pot', 'nack-next', true)
  expect(kindOf(() => pot.read())).toBe('no-ack')
  lease.live = false
  expect(kindOf(() => pot.read())).toBe('revoked')
  expect(backend.info('pot')).toMatchObject({ line: 'i2c-1@0x48/ain0', opens: 1, initWrites: 0 })
  expect(backend.info('pot')?.value).toBe(undefined)
  backend.close()
})

/** The SMBus calls of i2c-dev, answered by a simulated chip. Pointers are numbers, which are looked up. */
class SmbusChip implements System {
  readonly bus = new SimulatedI2cBus(1)
  readonly #buffers: Uint8Array[] = []

  constructor() {
    this.bus.place(0x48, 'ads1115')
  }

  address(bytes: Uint8Array): bigint {
    return BigInt(this.#buffers.push(bytes) - 1)
  }

  ioctl(_fd: number, _request: number, argument: Uint8Array): number {
    const [direction = 0, register = 0] = argument
    const block = this.#buffers[Number(new DataView(argument.buffer).getBigUint64(8, true))] as Uint8Array
    const length = block[0] as number
    if (direction === I2C_SMBUS_READ) block.set(this.bus.transfer(0x48, Uint8Array.of(register), length), 1)
    else this.bus.transfer(0x48, Uint8Array.of(register, ...block.subarray(1, 1 + length)), 0)
    return 0
  }
}

const ADC = { chip: 'ads1115', channel: 2, fullScale: 4.096 } as const
const GRANT: Grant = {
  name: 'pot',
  id: 1,
  kind: 'analog',
  via: 'inherit',
  fd: 99,
  encoding: 'i2c',
  address: 0x48,
  adc: ADC,
}

test('HANDLES 16.1: an inherited analog handle converts over its own descriptor', () => {
  const system = new SmbusChip()
  const pot = adopt(GRANT, { live: true, fence: 1 }, { system, broker: null }) as Analog
  system.bus.poke(0x48, 'ain2', 2.5)
  expect(pot.read()).toBeCloseTo(2.5, 3)
  expect(system.bus.snapshot(0x48)).toMatchObject({ conversions: 1 })
})

describe('a slow converter', () => {
  /** A conversion is complete at this look. */
  function slow(look: number): I2cDevice & { looked: number } {
    return {
      kind: 'i2c',
      name: 'pot',
      address: 0x48,
      looked: 0,
      read: () => new Uint8Array(0),
      write() {},
      writeRead([register]) {
        if (register === 0) return Uint8Array.of(0x40, 0)
        this.looked++
        return Uint8Array.of(this.looked >= look ? 0x85 : 0x05, 0x83)
      },
      close() {},
    }
  }

  test('HANDLES 16.2: read waits for the conversion, and throws after 10 ms', () => {
    const device = slow(2)
    expect(new AttachedAnalog(GRANT, device, {}).read()).toBeCloseTo(2.048)
    expect(device.looked).toBe(2)
    expect(kindOf(() => new AttachedAnalog(GRANT, slow(Number.POSITIVE_INFINITY), {}).read())).toBe('bus')
  })

  test('HANDLES 12.15: read does not wait in a rehearsal', () => {
    const device = slow(Number.POSITIVE_INFINITY)
    expect(new AttachedAnalog(GRANT, device, { rehearsal: true }).read()).toBeCloseTo(2.048)
    expect(device.looked).toBe(1)
  })
})
