import { robot } from 'medulla'
import { Display } from 'medulla/drivers'
import { edited, type Simulation, simulate } from 'medulla/test'
import { beforeAll, expect, test } from 'vitest'

const PROGRAM = new URL('program.ts', import.meta.url)
const V1 = new URL('v1/program.ts', import.meta.url)
const board = new URL('board.json', import.meta.url)

/** Every printable character by its picture of 6 x 8 pixels, to read text off the simulated display. */
const font = new Map<string, string>()
const WIDTH = 6
const HEIGHT = 8
const COLUMNS = 21

beforeAll(async () => {
  const characters = Array.from({ length: 95 }, (_, index) => String.fromCharCode(32 + index))
  const sim = await simulate(
    () =>
      robot({ display: 'i2c' }, ({ display }) => {
        const screen = new Display(display)
        for (const [at, each] of characters.entries()) {
          screen.text((at % COLUMNS) * WIDTH, Math.floor(at / COLUMNS) * HEIGHT, each)
        }
        screen.flush()
      }),
    { board },
  )
  await sim.run(1)
  for (const [at, each] of characters.entries()) {
    font.set(picture(sim, (at % COLUMNS) * WIDTH, Math.floor(at / COLUMNS) * HEIGHT, 1), each)
  }
  await sim.stop()
})

function picture(sim: Simulation, x: number, y: number, scale: number): string {
  const rows = sim.chip('display').rows as string[]
  const row = (at: number) =>
    Array.from({ length: WIDTH }, (_, column) => rows[at]?.[x + column * scale] ?? '.').join('')
  return Array.from({ length: HEIGHT }, (_, at) => row(y + at * scale)).join('\n')
}

/** The line of text at `y`. */
function read(sim: Simulation, y: number, scale = 1): string {
  const cell = (at: number) => font.get(picture(sim, at * WIDTH * scale, y, scale)) ?? '?'
  return Array.from({ length: Math.floor(COLUMNS / scale) }, (_, at) => cell(at))
    .join('')
    .trimEnd()
}

const overview = (sim: Simulation) => [0, 22, 44].map((y) => read(sim, y, 2))
const page = (sim: Simulation) => [read(sim, 0), read(sim, 14, 2), read(sim, 40), read(sim, 48)]

async function press(sim: Simulation): Promise<void> {
  sim.pull('button', 0)
  await sim.run('50ms')
  sim.release('button')
  await sim.run('50ms')
}

test('the display shows the measured values, and a page with the lowest and highest of each', async () => {
  const sim = await simulate(PROGRAM)
  sim.poke('sensor', 'temperature', 21.5)
  sim.poke('sensor', 'humidity', 48)
  sim.poke('sensor', 'pressure', 101_325)
  await sim.run('2s')
  expect(overview(sim)).toEqual(['21.5 C', '48 %', '1013 hPa'])

  sim.poke('sensor', 'temperature', -3.2)
  sim.poke('sensor', 'humidity', 91)
  await sim.run('1s')
  sim.poke('sensor', 'temperature', 4)
  await sim.run('1s')
  await press(sim)
  expect(page(sim)).toEqual(['Temperature', '4.0 C', 'min -3.2 C', 'max 21.5 C'])
  await press(sim)
  expect(page(sim)).toEqual(['Humidity', '91 %', 'min 48 %', 'max 91 %'])
  await press(sim)
  expect(page(sim)).toEqual(['Pressure', '1013 hPa', 'min 1013 hPa', 'max 1013 hPa'])
  await press(sim)
  expect(overview(sim)).toEqual(['4.0 C', '91 %', '1013 hPa'])
  await sim.stop()
})

test('the display shows the error of a missing sensor, and the sensor is found again', async () => {
  const sim = await simulate(PROGRAM)
  await sim.run('1s')
  sim.poke('sensor', 'nack-next', 3)
  await sim.run('1s')
  expect(read(sim, 0)).toBe('sensor: no-ack')
  await sim.until('the sensor is back', '10s')
  expect(overview(sim)).toEqual(['20.0 C', '50 %', '1013 hPa'])
  await sim.stop()
})

test('a new version shows the same page, and sends only changed pixels to the display', async () => {
  const sim = await simulate(PROGRAM)
  await press(sim)
  await sim.run('2s')
  const sent = () => [sim.chip('display').initWrites, sim.chip('display').dataWrites, sim.chip('sensor').initWrites]
  const before = sent()
  const same = await sim.swap(edited(PROGRAM, '1000, ()', '500, ()'))
  await sim.run('5s')
  expect(same.outcome).toBe('committed')
  expect(sent()).toEqual(before)

  await sim.swap(edited(PROGRAM, "title: 'Temperature'", "title: 'Warmth'"))
  await sim.run('2s')
  expect(page(sim)).toEqual(['Warmth', '20.0 C', 'min 20.0 C', 'max 20.0 C'])
  const [initWrites, dataWrites, sensorWrites] = sent()
  expect([initWrites, sensorWrites]).toEqual([before[0], before[2]])
  expect(Number(dataWrites) - Number(before[1])).toBeLessThanOrEqual(11 * WIDTH)
  await sim.stop()
})

test('the temperatures are kept from state version 1 to 2, back to 1, and to 2 again', async () => {
  const sim = await simulate(V1, { board })
  const at = async (temperature: number) => {
    sim.poke('sensor', 'temperature', temperature)
    await sim.run('2s')
  }
  await at(10)
  expect([0, 32, 48].map((y) => read(sim, y, y === 0 ? 2 : 1))).toEqual(['10.0 C', 'min 10.0 C', 'max 10.0 C'])

  await sim.swap(PROGRAM)
  await at(30)
  expect(sim.state).toMatchObject({
    temperature: { min: expect.closeTo(10, 1), max: expect.closeTo(30, 1) },
    humidity: { min: expect.closeTo(50, 0), max: expect.closeTo(50, 0) },
  })

  await sim.rollback()
  await at(5)
  expect([0, 32, 48].map((y) => read(sim, y, y === 0 ? 2 : 1))).toEqual(['5.0 C', 'min 5.0 C', 'max 30.0 C'])
  expect(Object.keys(sim.state as object)).toEqual(['temperature'])

  await sim.swap(PROGRAM)
  await at(20)
  await press(sim)
  expect(page(sim)).toEqual(['Temperature', '20.0 C', 'min 5.0 C', 'max 30.0 C'])
  await sim.stop()
})
