/** The simulated VL53L0X with a third-party driver, and with the sequences that such drivers send. */
import { Distance, i2cBus } from 'medulla/drivers'
import { afterAll, expect, test } from 'vitest'
import open from 'vl53l0x'
import { simulatedChips } from '../../../chips.ts'
import { temporary } from '../../../host.ts'

const TOF = 0x29
const folder = temporary()
afterAll(() => folder.remove())

function chip() {
  const { world, devices } = simulatedChips(folder.path, { [TOF]: 'vl53l0x' })
  const [device] = devices
  if (device === undefined) throw new Error('no chip')
  const put = (...pairs: [number, number][]) => {
    for (const pair of pairs) device.write(Uint8Array.from(pair))
  }
  const get = (at: number, length = 1) => [...device.writeRead(Uint8Array.of(at), length)]
  const see = (mm: number | null) => world.poke(`chip${TOF}`, 'distance', mm)
  return { world, device, bus: i2cBus(device), put, get, see, now: () => world.chip(`chip${TOF}`) }
}

test('the npm package vl53l0x starts the chip, measures, and reads its settings back', async () => {
  const { bus, see } = chip()
  const sensor = open(bus.promisifiedBus(), TOF)
  for (const mm of [321, 45, 1999]) {
    see(mm)
    expect(await sensor.measure()).toBe(mm)
  }
  see(null)
  expect(await sensor.measure()).toBeGreaterThan(8000)
  expect(await sensor.getSignalRateLimit()).toBe(0.25)
  expect(await sensor.setMeasurementTimingBudget(200_000)).toBe(true)
  // the register keeps eight bits of the budget, and the package adds 600 us when it reads the budget
  expect(Math.abs((await sensor.getMeasurementTimingBudget()) - 200_600)).toBeLessThan(1000)
  await sensor.setVcselPulsePeriod('final', 14)
  expect(await sensor.getVcselPulsePeriod(0x70)).toBe(14)
  see(77)
  expect(await sensor.measure()).toBe(77)
})

test('a driver that reads the range without a status gets the current range', () => {
  const { put, get, see } = chip()
  // calibration first: a measurement that is cleared without being read
  put([0x00, 0x41], [0x0b, 1], [0x00, 0x00])
  for (const mm of [250, 777]) {
    see(mm)
    put([0x00, 0x01])
    expect(get(0x1e, 2)).toEqual([mm >> 8, mm & 0xff])
    put([0x0b, 1])
  }
})

test("a driver that polls the range's status without the interrupt sees it complete", () => {
  const { put, get } = chip()
  put([0x00, 0x01])
  expect([get(0x14), get(0x14)]).toEqual([[0], [0x59]])
  expect(get(0x1e, 2)).toEqual([0, 200])
})

test('pages: writes to other pages start nothing and do not change page 0', () => {
  const { put, get, now } = chip()
  put([0x51, 0x12], [0xff, 1], [0x00, 1], [0x51, 0x34])
  expect([get(0xff), get(0x51), now()]).toEqual([[1], [0x34], expect.objectContaining({ ranging: 'idle' })])
  expect(get(0x91)).toEqual([0x3c])
  put([0xff, 0])
  expect([get(0xff), get(0x51), get(0xc0)]).toEqual([[0], [0x12], [0xee]])
})

test('the factory memory answers its strobe with number, type and map of the reference SPADs', () => {
  const { put, get } = chip()
  put([0x80, 1], [0xff, 1], [0x00, 0], [0xff, 6], [0x83, 4], [0xff, 7], [0x81, 1], [0x80, 1], [0x94, 0x6b], [0x83, 0])
  expect(get(0x83)).not.toEqual([0])
  put([0x83, 1])
  expect([get(0x92), get(0x83)]).toEqual([[0x85], [1]])
  put([0x94, 0x24], [0x83, 0], [0x83, 1])
  expect(get(0x90, 4)).toEqual([255, 255, 255, 255])
  put([0x81, 0], [0xff, 6])
  expect(get(0x83)).toEqual([4])
})

test('our device takes over a chip that another driver has started, and starts it again', async () => {
  const { bus, device, see, now } = chip()
  see(150)
  await open(bus.promisifiedBus(), TOF).measure()
  const ours = new Distance(device)
  // the interrupt is set up as ours, so that only missing measurements show that the chip does not range
  for (let tick = 0; tick < 80 && ours.mm === null; tick++) ours.tick(0.01)
  expect([ours.mm, now()]).toEqual([150, expect.objectContaining({ ranging: 'continuous' })])
})
