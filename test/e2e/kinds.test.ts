import { closeSync, constants, existsSync, openSync, readSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from './eventually.ts'
import { load } from './load.ts'
import { TestRobot } from './robot.ts'
import { accepted, type Entry, expectOneWriter } from './trace.ts'

const SLEW = 720
const HANDLES = {
  arm: { kind: 'servo', line: 'GPIO18', degrees: [0, 90], initial: 0, safe: 10, slew: SLEW },
  dt: { kind: 'pwm', line: 'GPIO19', frequencyHz: 1000 },
  pot: { kind: 'analog', adc: 'ads1115', bus: 1, channel: 0 },
  light: { kind: 'analog', adc: 'ads1115', bus: 1, channel: 1 },
  adc: { kind: 'spi', bus: 0, select: 0, simulate: 'mcp3008' },
  water: { kind: 'temperature', device: '28-0316a279f5ff' },
  gps: { kind: 'serial', path: '/dev/serial0', baud: 115200 },
}

let robot: TestRobot
beforeAll(async () => {
  robot = await TestRobot.start({}, {}, { more: { handles: HANDLES } })
  await robot.commit('arm')
})
afterAll(async () => robot?.close())

/** Checks the slew limit between every two writes in the trace (HANDLES 15.3). */
function expectNoJump(entries: readonly Entry[]): void {
  const moves = accepted(entries, 'arm').map(({ ns, value }) => ({ ms: Number(ns) / 1e6, value }))
  expect(moves.length).toBeGreaterThan(10)
  const jumps = moves.flatMap((after, i) =>
    moves
      .slice(Math.max(0, i - 20), i)
      .filter((before) => Math.abs(after.value - before.value) > (SLEW * (after.ms - before.ms + 40)) / 1000 + 1e-6)
      .map((before) => [before, after]),
  )
  expect(jumps).toEqual([])
}

test('HANDLES 15: a servo goes on from where it is over swaps during its motion, and never jumps', async () => {
  const mark = robot.trace.mark()
  for (const version of ['1.1.0', '1.2.0', '1.3.0']) await robot.commit('arm', { version })
  await robot.trace.more('arm')
  const entries = robot.trace.since(mark)
  expectNoJump(entries)
  expectOneWriter(entries)
  const values = accepted(entries, 'arm').map(({ value }) => value)
  expect([Math.min(...values), Math.max(...values)]).toEqual([0, 90])
})

test('HANDOVER 7.4, 7.8: after an undone swap the servo does not jump back, and dt is right', async () => {
  const mark = robot.trace.mark()
  const busy = load()
  expect(await robot.push('arm', { version: '2.0.0' })).toMatchObject({ outcome: 'rolled-back', code: 'unhealthy' })
  await robot.trace.more('arm')
  const entries = robot.trace.since(mark)
  expectNoJump(entries)
  const ticks = accepted(entries, 'dt')
  const [before, after] = [ticks[0]?.fence ?? 0, ticks.at(-1)?.fence ?? 0]
  expect(new Set(ticks.map(({ fence }) => fence)).size).toBe(3)
  expect(after).toBeGreaterThan(before)
  // dt is one period after a long pause, and the time since the last tick after a short pause; a tick begins before its write
  const first = ticks.find(({ fence }) => fence === after) as Entry
  const last = ticks.filter(({ fence }) => fence < after).at(-1) as Entry
  const pause = Number(first.ns - last.ns) / 1e9
  expect(Math.min(Math.abs(first.value - 0.02), Math.abs(first.value - pause))).toBeLessThan(
    0.015 * Math.max(busy, load()),
  )
})

test('HANDLES 9.10, 16: a program answers on a simulated serial line, reached by a link in the home', async () => {
  const link = join(robot.home, 'serial', 'gps')
  const { handles } = await robot.slot()
  expect(handles.find(({ name }) => name === 'gps')).toMatchObject({ kind: 'serial', place: link })
  const fd = openSync(link, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK)
  const bytes = Buffer.alloc(4096)
  let said = ''
  writeSync(fd, 'pot?')
  await eventually(() => {
    try {
      said += bytes.toString('latin1', 0, readSync(fd, bytes))
    } catch {
      // no data yet
    }
    return said.includes('pot? 0.000 V\n')
  })
  closeSync(fd)
  const { pid, restarts } = await robot.running()
  await robot.trace.more('arm')
  expect(await robot.running()).toMatchObject({ pid, restarts })
})

test('HANDLES 16.3: the second input of a converter is refused to another slot', async () => {
  const refused = await robot.push('light', { to: 'lamp' })
  expect(refused).toMatchObject({ outcome: 'refused', code: 'handle-leased' })
  expect(refused.message).toContain("slot lamp needs 'light', which goes together with 'pot', and slot main holds that")
})

test('HANDLES 7.4, 18.1: a program reads an ADC on SPI and a temperature', async () => {
  await robot.commit('senses', { to: 'senses' })
  await eventually(async () => (await robot.logs('senses')).some(({ text }) => text === 'input 0 0 V, water 20 C'))
  const { handles } = await robot.slot('senses')
  expect(handles).toEqual([
    { name: 'adc', kind: 'spi', place: 'spi-0.0', via: 'broker' },
    { name: 'water', kind: 'temperature', place: 'w1-28-0316a279f5ff', via: 'broker', value: 20 },
  ])
})

test('HANDLES 6.2, 15.5: a stop moves the servo to its safe angle, and the link goes with the runtime', async () => {
  const mark = robot.trace.mark()
  expect(await robot.events(robot.client.stop('main'))).toMatchObject({ outcome: 'stopped' })
  await eventually(() => accepted(robot.trace.since(mark), 'arm').at(-1)?.value === 10)
  await robot.end()
  expect(existsSync(join(robot.home, 'serial', 'gps'))).toBe(false)
})
