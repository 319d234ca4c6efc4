/** An unchanged chip driver from npm on a simulated chip. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from './eventually.ts'
import { TestRobot } from './robot.ts'
import { accepted, expectOneWriter } from './trace.ts'

const HANDLES = {
  led: { kind: 'output', line: 'GPIO17' },
  imu: { kind: 'i2c', bus: 1, address: '0x68', simulate: 'mpu6050' },
}

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start({}, {}, { more: { handles: HANDLES } })
})
afterAll(async () => robot?.close())

/** The program's log line about a reading, after the given number of readings. */
const reading = (after: number) =>
  eventually(async () => {
    const lines = (await robot.logs()).map(({ text }) => /^reading (\d+): (.*)$/.exec(text))
    const [, count, values] = lines.findLast((line) => line !== null) ?? []
    return Number(count) > after && { count: Number(count), values }
  })

test('a chip driver from npm runs unchanged on a robot, also after a swap', { tags: ['slow'] }, async () => {
  await robot.commit('npm-driver')
  const first = await reading(0)
  expect(first.values).toBe('z 1 g, 25.0 C')
  await robot.commit('npm-driver', { version: '2.0.0' })
  expect(await reading(first.count)).toMatchObject({ values: first.values })
  // the driver switches the chip on at its first reading, and never off
  const written = accepted(robot.trace.read(), 'led').map(({ value }) => value)
  expect(written.length).toBeGreaterThan(10)
  expect(new Set(written.slice(1))).toEqual(new Set([1]))
  expectOneWriter(robot.trace.read())
})
