import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { robot } from 'medulla'
import { HardwareError } from 'medulla/drivers'
import { simulate } from 'medulla/test'
import { afterAll, expect, test } from 'vitest'
import { parseBoard } from '../../../drivers/board/board.ts'
import { grantOf } from '../../../drivers/owner/backend.ts'
import { crc8, degreesOfText } from '../../../drivers/owner/ds18b20.ts'
import { W1Bus } from '../../../drivers/owner/linux/w1.ts'
import { SimBackend } from '../../../drivers/owner/sim/backend.ts'
import { World } from '../../../drivers/owner/sim/world.ts'
import { adoptBrokered } from '../../../drivers/program/broker/index.ts'
import type { Temperature } from '../../../drivers/program/handle.ts'
import { ZeroBroker } from '../../../runtime/sdk/dummies.ts'
import { eventually } from '../../e2e/eventually.ts'
import { temporary } from '../host.ts'

const DEVICE = '28-0316a279f5ff'
const ENTRY = { kind: 'temperature', device: DEVICE }
const boardOf = (handles: object, model = 'sim') => parseBoard(JSON.stringify({ model, handles }), 'b')
const folder = temporary()
afterAll(() => folder.remove())

const thrown = (call: () => unknown): string => {
  try {
    return String(call())
  } catch (error) {
    return error instanceof HardwareError ? `${error.kind}: ${error.message}` : String(error)
  }
}

/** `w1_slave` as the kernel prints it. */
function textOf(bytes: readonly number[], crc = crc8(Uint8Array.from(bytes.slice(0, 8)))): string {
  const all = [...bytes.slice(0, 8), crc]
  const hex = all.map((byte) => byte.toString(16).padStart(2, '0')).join(' ')
  return `${hex} : crc=${hex.slice(-2)} ${crc === crc8(Uint8Array.from(bytes.slice(0, 8))) ? 'YES' : 'NO'}\n${hex} t=0\n`
}

test('the checksum, and the example of the kernel documentation', () => {
  expect(crc8(Uint8Array.of(0x72, 0x01, 0x4b, 0x46, 0x7f, 0xff, 0x0e, 0x10))).toBe(0x57)
  const text = '72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n'
  expect(degreesOfText('it', text)).toBe(23.125)
})

// table 1 of the data sheet
test.each([
  [125, 0x07d0],
  [85, 0x0550],
  [25.0625, 0x0191],
  [10.125, 0x00a2],
  [0.5, 0x0008],
  [0, 0x0000],
  [-0.5, 0xfff8],
  [-10.125, 0xff5e],
  [-25.0625, 0xfe6f],
  [-55, 0xfc90],
])('%d C is the register 0x%x', (degrees, register) => {
  const bytes = [register & 0xff, register >> 8, 0x4b, 0x46, 0x7f, 0xff, 0x10 - (register & 15), 0x10]
  expect(degreesOfText('it', textOf(bytes))).toBe(degrees)
})

test.each([
  [
    'a wrong checksum',
    textOf([0x72, 1, 0x4b, 0x46, 0x7f, 0xff, 0x0e, 0x10], 0x58),
    /the checksum is wrong: .* 4.7 kOhm/,
  ],
  ['a shorted line', textOf(Array(8).fill(0)), /stuck low/],
  ['an open line', textOf(Array(8).fill(0xff), 0xff), /the checksum is wrong/],
  ['no conversion', textOf([0x50, 5, 0x4b, 0x46, 0x7f, 0xff, 0x0c, 0x10]), /shows 85 C, its value after power-on/],
  ['nothing', '', /the kernel read nothing/],
  ['rubbish', 'hello\n', /the kernel read nothing/],
])('%s is no temperature', (_, text, message) => {
  expect(() => degreesOfText('it', text)).toThrow(expect.objectContaining({ kind: 'bus' }))
  expect(() => degreesOfText('it', text)).toThrow(message)
})

test('HANDLES 18.2, 18.3: the body measures by itself; a sensor may vanish, return and send garbage', async () => {
  const w1 = join(folder.path, 'w1')
  const file = join(w1, DEVICE, 'w1_slave')
  const put = (text: string) => writeFileSync(file, text)
  const opened = new W1Bus(w1).open('water', { device: DEVICE, everyMs: 10 })
  const measured = () => thrown(() => opened.measured?.())
  expect(measured()).toBe('busy: water: its first measurement takes about a second')
  expect(opened.value?.()).toBeUndefined()
  await eventually(() => measured().startsWith(`no-device: water: ${DEVICE} is not there: add dtoverlay=w1-gpio`))
  mkdirSync(join(w1, DEVICE), { recursive: true })
  put(textOf([0x91, 1, 0x4b, 0x46, 0x7f, 0xff, 0x0f, 0x10]))
  await eventually(() => measured() === '25.0625')
  expect(opened.value?.()).toBe(25.0625)
  put(textOf([0x91, 1, 0x4b, 0x46, 0x7f, 0xff, 0x0f, 0x10], 1))
  await eventually(() => measured().startsWith('bus: water: the checksum is wrong'))
  rmSync(join(w1, DEVICE), { recursive: true })
  await eventually(() => measured().startsWith('no-device'))
  opened.close()
  expect([opened.fds, opened.source]).toEqual([[], { via: 'broker' }])
})

test('HANDLES 18.2: sensors of one bus are read one after the other', async () => {
  const w1 = join(folder.path, 'many')
  const devices = Array.from({ length: 6 }, (_, n) => `28-00000000000${n}`)
  for (const [n, device] of devices.entries()) {
    mkdirSync(join(w1, device), { recursive: true })
    writeFileSync(join(w1, device, 'w1_slave'), textOf([n * 16, 0, 0x4b, 0x46, 0x7f, 0xff, 0x10, 0x10]))
  }
  const bus = new W1Bus(w1)
  const opened = devices.map((device) => bus.open(device, { device, everyMs: 10 }))
  const order: number[] = []
  await eventually(() => {
    for (const [n, one] of opened.entries()) {
      if (one.value?.() !== undefined && !order.includes(n)) order.push(n)
    }
    return order.length === devices.length
  })
  expect(order).toEqual([0, 1, 2, 3, 4, 5])
  // all zeros would mean a shorted line
  expect(opened.map((one) => one.value?.())).toEqual([0, 1, 2, 3, 4, 5])
  for (const one of opened) one.close()
})

function device() {
  const world = new World()
  const backend = new SimBackend({ world, folder: null })
  const owned = backend.open('water', 1, boardOf({ water: ENTRY }).handles.water as never)
  const lease = { live: true, fence: 1 }
  backend.allowFence(1)
  const request = (_id: number, op: number, fence: number, payload: Uint8Array) => owned.request(op, payload, fence)
  const handle = adoptBrokered(grantOf(owned, owned.grant()), lease, { request }) as Temperature
  return { world, owned, lease, handle, read: () => thrown(() => handle.read()) }
}

test('HANDLES 9.8, 18.1, 18.4: the simulated sensor, its faults, and reads without a lease', () => {
  const { world, owned, lease, handle, read } = device()
  expect([read(), owned.value()]).toEqual(['20', 20])
  world.poke('water', 'temperature', -10.1)
  expect([read(), world.chip('water')]).toEqual(['-10.125', expect.objectContaining({ temperature: -10.1 })])
  world.poke('water', 'nack-next', 2)
  expect([owned.value(), read(), read(), read()]).toEqual([
    undefined,
    `no-device: water: ${DEVICE} is not there`,
    `no-device: water: ${DEVICE} is not there`,
    '-10.125',
  ])
  world.poke('water', 'bad-data', true)
  expect([read().slice(0, 35), read()]).toEqual(['bus: water: the checksum is wrong: ', '-10.125'])
  world.poke('water', 'power-on', true)
  expect([read().slice(0, 45), read()]).toEqual(['bus: water: the sensor shows 85 C, its value ', '-10.125'])
  world.poke('water', 'temperature', 85)
  expect(read()).toBe('85')
  world.poke('water', 'stuck-bus', true)
  expect([read(), read()].map((text) => text.slice(0, 25))).toEqual(Array(2).fill('bus: water: the 1-wire bu'))
  world.poke('water', 'stuck-bus', false)
  for (const [what, value] of [
    ['temperature', 126],
    ['temperature', '20'],
    ['nack-next', 0.5],
    ['bad-data', -1],
    ['stuck-bus', 1],
    ['power-on', false],
    ['volts', 1],
  ] as const) {
    expect(thrown(() => world.poke('water', what, value))).toMatch(/^unsupported: 28-0316a279f5ff: cannot poke /)
  }
  // reading needs no lease, but an open handle
  lease.live = false
  expect(read()).toBe('85')
  handle.close()
  expect(read()).toMatch(/^revoked/)
  expect(thrown(() => owned.drive(20, 2))).toMatch(/^unsupported/)
})

test('HANDLES 12.15: a rehearsal reads 0 C', () => {
  const grant = { name: 'water', id: 1, kind: 'temperature', via: 'broker' } as const
  const broker = new ZeroBroker(null)
  expect((adoptBrokered(grant, { live: true, fence: 0 }, broker) as Temperature).read()).toBe(0)
  expect(broker.asked).toBe(true)
})

test('a temperature entry in a board file', () => {
  expect(boardOf({ water: ENTRY }, 'pi4').handles.water).toEqual({
    ...ENTRY,
    sensor: 'ds18b20',
    everyMs: 1000,
    via: 'broker',
  })
  expect(() => boardOf({ water: { ...ENTRY, device: '10-000801b5a7a6' } })).toThrow(
    'handles.water.device: expected the id of a DS18B20 from /sys/bus/w1/devices, as "28-0316a279f5ff", got "10-000801b5a7a6"',
  )
  expect(() => boardOf({ a: ENTRY, b: ENTRY })).toThrow(`w1-${DEVICE} is already used by "a"`)
  expect(() => boardOf({ water: { ...ENTRY, everyMs: 100 } })).toThrow('handles.water.everyMs: expected at least 750')
  for (const kind of ['onewire', '1-wire', 'w1', 'ds18b20']) {
    expect(() => boardOf({ water: { ...ENTRY, kind } })).toThrow(
      expect.objectContaining({ fix: 'write "temperature"' }),
    )
  }
})

test('a program reads the temperature in the simulator, across a swap and in scenarios', async () => {
  const program = () =>
    robot({
      needs: { water: 'temperature', heater: 'output' },
      state: { version: 1, initial: () => ({ faults: '' }) },
      run({ water, heater, state, every }) {
        every(100, () => {
          try {
            heater.write(water.read() < 40)
          } catch (error) {
            state.faults += `${(error as HardwareError).kind} `
            heater.write(0)
          }
        })
      },
    })
  const board = { handles: { water: ENTRY, heater: { kind: 'output', line: 17 } } }
  const sim = await simulate(program, { board })
  await sim.run(200)
  expect([sim.value('water'), sim.value('heater')]).toEqual([20, 1])
  sim.poke('water', 'temperature', 45)
  await sim.run(200)
  expect([sim.value('water'), sim.value('heater')]).toEqual([45, 0])
  sim.poke('water', 'temperature', 30)
  await sim.swap(program)
  await sim.run('2s')
  expect(sim.value('heater')).toBe(1)
  sim.poke('water', 'nack-next', true)
  await sim.run(100)
  expect([sim.state, sim.value('heater')]).toEqual([{ faults: 'no-device ' }, 0])
  expect(sim.vcd()).not.toContain('water')
  await sim.stop()
})
