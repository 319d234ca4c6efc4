import fc from 'fast-check'
import { robot } from 'medulla'
import { HardwareError, Mcp3008 } from 'medulla/drivers'
import { simulate } from 'medulla/test'
import { expect, test } from 'vitest'
import { parseBoard } from '../../../../drivers/board/board.ts'
import { grantOf } from '../../../../drivers/owner/backend.ts'
import { SimBackend } from '../../../../drivers/owner/sim/backend.ts'
import { mcp3008 } from '../../../../drivers/owner/sim/chips/mcp3008.ts'
import { World } from '../../../../drivers/owner/sim/world.ts'
import { adoptBrokered } from '../../../../drivers/program/broker/index.ts'
import type { SpiDevice } from '../../../../drivers/program/handle.ts'

const ENTRY = { kind: 'spi', bus: 0, select: 1, simulate: 'mcp3008' }
const boardOf = (handles: object) => parseBoard(JSON.stringify({ model: 'sim', handles }), 'b')

/** A program's handle on a simulated chip. */
function device(entry: object = ENTRY) {
  const world = new World()
  const backend = new SimBackend({ world, folder: null })
  const owned = backend.open('adc', 1, boardOf({ adc: entry }).handles.adc as never)
  const lease = { live: true, fence: 1 }
  backend.allowFence(1)
  const request = (_id: number, op: number, fence: number, payload: Uint8Array) => owned.request(op, payload, fence)
  const spi = adoptBrokered(grantOf(owned, owned.grant()), lease, { request }) as SpiDevice
  return { world, backend, lease, spi }
}

const said = (call: () => unknown): string => {
  try {
    call()
    return 'nothing'
  } catch (error) {
    return error instanceof HardwareError ? error.kind : (error as Error).message
  }
}

test('MCP3008: the three bytes of figure 6-1, single-ended and as pairs', () => {
  const { spi, world } = device()
  world.poke('adc', 'volts', [0, 3.3, 1.65, 0.5, 0, 0, 2, 1])
  const frame = (...bytes: number[]) => [...spi.transfer(Uint8Array.from(bytes))]
  // figure 6-1 does not define the bits before the null bit; in the simulator they are ones
  expect(frame(0x01, 0x80, 0x00)).toEqual([0xff, 0xf8, 0x00])
  expect(frame(0x01, 0x90, 0x00)).toEqual([0xff, 0xfb, 0xff])
  expect(frame(0x01, 0xa0, 0x00)).toEqual([0xff, 0xfa, 0x00])
  // 0.5 V: trunc(1024 * 0.5 / 3.3) = 155
  expect(frame(0x01, 0xb0, 0x00)).toEqual([0xff, 0xf8, 155])
  // table 5-2: 110 is channel 6 against 7, 111 the other way round
  expect(frame(0x01, 0x60, 0x00)).toEqual([0xff, 0xf9, Math.floor(1024 / 3.3) & 0xff])
  expect(frame(0x01, 0x70, 0x00)).toEqual([0xff, 0xf8, 0x00])
})

test('MCP3008: the start bit may be anywhere, and the bits repeat from the lowest', () => {
  const { spi, world } = device()
  world.poke('adc', 'ch0', (3.3 * 0b1010110011 + 0.001) / 1024)
  // section 5.0, figure 5-1: 5 bits in, a sample clock, a null bit, B9 to B0, B1 to B9, then zeros
  const sent = Uint8Array.of(0b11000000, 0, 0, 0, 0)
  const bits = [...spi.transfer(sent)].map((byte) => byte.toString(2).padStart(8, '0')).join('')
  expect(bits).toBe(`111111${'0'}${'1010110011'}${'100110101'}${'0'.repeat(14)}`)
  const late = [...spi.transfer(Uint8Array.of(0, 0b00110000, 0, 0))]
  const shifted = late.map((byte) => byte.toString(2).padStart(8, '0')).join('')
  expect(shifted).toBe(`${'1'.repeat(16)}${'0'}${'1010110011'}${'10011'}`)
  // no start bit, or no bits after it: the output stays in high impedance
  expect([...spi.transfer(new Uint8Array(3))]).toEqual([255, 255, 255])
  expect([...spi.transfer(Uint8Array.of(0x01))]).toEqual([255])
  expect(world.chip('adc')).toMatchObject({ conversions: 2 })
})

test('HANDLES 9.8: an MCP3008 accepts any bytes, and a transfer does not change the old value', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 12 }), { maxLength: 20 }), (messages) => {
      let chip = mcp3008.initial
      for (const bytes of messages) {
        const before = structuredClone(chip)
        const done = mcp3008.transfer(chip, bytes)
        expect(chip).toEqual(before)
        expect(done.bytes.length).toBe(bytes.length)
        chip = done.next
      }
    }),
    { numRuns: 50 },
  )
})

test('the device gives the volts of every input and pair, by equation 4-2', () => {
  const { spi, world } = device()
  const adc = new Mcp3008(spi)
  const volts = [0, 0.4, 0.8, 1.2, 1.6, 2.5, 3.2, 3.3]
  world.poke('adc', 'volts', volts)
  for (const [channel, given] of volts.entries()) {
    const code = Math.min(1023, Math.floor((1024 * given) / 3.3))
    expect(adc.raw(channel)).toBe(code)
    expect(adc.read(channel)).toBeCloseTo((code * 3.3) / 1024, 9)
  }
  expect(adc.difference(5)).toBeCloseTo(0.9, 2)
  expect(adc.difference(4)).toBe(0)
  world.poke('adc', 'reference', 5)
  expect(new Mcp3008(spi, { reference: 5 }).read(5)).toBeCloseTo(2.5, 2)
  for (const wrong of [8, -1, 0.5, Number.NaN]) expect(said(() => adc.read(wrong))).toMatch(/from 0 to 7/)
  expect(said(() => new Mcp3008(spi, { reference: 0 }))).toMatch(/VREF/)
})

test('a chip that does not answer throws no-device, and works again later', () => {
  const { spi, world } = device()
  const adc = new Mcp3008(spi)
  world.poke('adc', 'bad-data', true)
  expect([said(() => adc.read(0)), said(() => adc.read(0))]).toEqual(['no-device', 'nothing'])
  world.poke('adc', 'bad-data', 2)
  expect([1, 2, 3].map(() => said(() => adc.read(0)))).toEqual(['no-device', 'no-device', 'nothing'])
  for (const [what, value] of [
    ['nack-next', 1],
    ['stuck-bus', true],
    ['ch8', 1],
    ['ch0', 'high'],
    ['ch0', 9],
    ['volts', [1, 2]],
    ['bad-data', -1],
    ['reference', 0],
  ] as const) {
    expect(said(() => world.poke('adc', what, value))).toBe('unsupported')
  }
})

test('HANDLES 3.4, 7.4: a brokered transfer needs a lease and the current fence, and has a limit', () => {
  const { spi, lease, backend } = device({ ...ENTRY, simulate: 'loopback' })
  expect([...spi.transfer(Uint8Array.of(1, 2, 3))]).toEqual([1, 2, 3])
  expect(spi.transfer(new Uint8Array(0))).toEqual(new Uint8Array(0))
  expect(spi.transfer(new Uint8Array(4096).fill(7))).toEqual(new Uint8Array(4096).fill(7))
  expect(said(() => spi.transfer(new Uint8Array(4097)))).toBe('other')
  lease.live = false
  expect(said(() => spi.transfer(Uint8Array.of(1)))).toBe('revoked')
  lease.live = true
  backend.advance(2, ['adc'])
  expect(said(() => spi.transfer(Uint8Array.of(1)))).toBe('revoked')
  expect(backend.info('adc')).toMatchObject({ line: 'spi-0.1', staleWrites: 1 })
  spi.close()
  expect(said(() => spi.transfer(Uint8Array.of(1)))).toBe('revoked')
})

test('a program reads an MCP3008 in the simulator, across a swap', async () => {
  const program = () =>
    robot({
      needs: { adc: 'spi' },
      state: { version: 1, initial: () => ({ volts: 0 }) },
      run({ adc, state, every }) {
        const inputs = new Mcp3008(adc)
        every(10, () => {
          state.volts = inputs.read(3)
        })
      },
    })
  const sim = await simulate(program, { board: { handles: { adc: ENTRY } } })
  await sim.run(20)
  expect(sim.state).toEqual({ volts: 0 })
  sim.poke('adc', 'ch3', 1.65)
  await sim.run(20)
  expect(sim.state).toEqual({ volts: 1.65 })
  await sim.swap(program)
  await sim.run('2s')
  expect(sim.receipts.at(-1)).toMatchObject({ outcome: 'committed' })
  expect(sim.chip('adc')).toMatchObject({ volts: [0, 0, 0, 1.65, 0, 0, 0, 0] })
  await sim.stop()
})
