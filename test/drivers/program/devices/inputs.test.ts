/** Devices that use the edges of inputs. */
import { expect, test } from 'vitest'
import { Button, Encoder, Sonar } from '../../../../drivers/index.ts'
import { TestInput, wired } from './wires.ts'

function button(options = {}, level: 0 | 1 = 0) {
  const line = new TestInput(level)
  const it = new Button(line.input, options)
  const heard: string[] = []
  it.onPress((ns) => heard.push(`press ${Number(ns) / 1e6}`))
  it.onRelease((ns) => heard.push(`release ${Number(ns) / 1e6}`))
  it.onHold((ns) => heard.push(`hold ${Number(ns) / 1e6}`))
  return { line, it, heard }
}

test('a button is pressed, held once, and released', () => {
  const { line, it, heard } = button({ holdMs: 300 })
  line.at(100, 1)
  for (let tick = 0; tick < 10; tick++) it.tick(0.1)
  line.at(1100, 0)
  it.tick(1)
  line.at(1200, 1)
  it.tick(0.2)
  line.at(1400, 0)
  it.tick(1)
  expect(heard).toEqual(['press 100', 'hold 100', 'release 1100', 'press 1200', 'release 1400'])
})

test('a button to ground is pressed while its line is low', () => {
  const { line, it, heard } = button({ pressedLevel: 0 }, 1)
  expect(it.isPressed).toBe(false)
  line.at(1, 0)
  expect(it.isPressed).toBe(true)
  line.at(2, 1)
  it.close()
  line.at(3, 0)
  expect(heard).toEqual(['press 1', 'release 2'])
})

test('a button reports both events around a lost edge, and an edge that was read before it arrived once', () => {
  const lost = button()
  lost.line.at(1, 1)
  lost.line.at(2, 0, false)
  lost.line.at(3, 1)
  expect(lost.heard).toEqual(['press 1', 'release 3', 'press 3'])
  const waiting = button({}, 1)
  waiting.line.at(1, 1)
  expect(waiting.heard).toEqual(['press 1'])
})

/** One period forward, with a first. */
const FORWARD = [
  ['a', 1],
  ['b', 1],
  ['a', 0],
  ['b', 0],
] as const

function encoder(options = {}) {
  const lines = { a: new TestInput(), b: new TestInput() }
  const it = new Encoder(lines.a.input, lines.b.input, options)
  let ms = 0
  const period = (steps: readonly (readonly ['a' | 'b', 0 | 1])[] = FORWARD) => {
    for (const [line, level] of steps) lines[line].at(ms++, level)
  }
  return { lines, it, period }
}

test('an encoder counts four for each period, in both directions', () => {
  const { it, period } = encoder({ position: 100 })
  expect([it.position, it.direction]).toEqual([100, 0])
  period()
  period()
  expect([it.position, it.direction]).toEqual([108, 1])
  period([
    ['b', 1],
    ['a', 1],
    ['b', 0],
    ['a', 0],
  ])
  expect([it.position, it.direction, it.missed]).toEqual([104, -1, 0])
  it.reset()
  period()
  expect(it.position).toBe(4)
  it.close()
  period()
  expect(it.position).toBe(4)
})

test('an encoder sorts thousands of edges of both lines by their time', () => {
  const { lines, it } = encoder({ inverted: true })
  // the edges of b arrive before those of a
  lines.b.at(2, 1)
  lines.b.at(4, 0)
  lines.a.at(1, 1)
  lines.a.at(3, 0)
  expect([it.position, it.missed]).toEqual([-4, 0])
  const long = encoder()
  for (let count = 0; count < 1000; count++) long.period()
  expect([long.it.position, long.it.missed]).toEqual([4000, 0])
})

test('an encoder counts lost edges, and an edge that was read before it arrived once', () => {
  const { lines, it, period } = encoder()
  period()
  lines.a.at(10, 1)
  lines.a.at(11, 0, false)
  lines.a.at(12, 1)
  expect(it.missed).toBe(1)
  const [a, b] = [new TestInput(1), new TestInput(0)]
  const successor = new Encoder(a.input, b.input)
  a.at(1, 1)
  b.at(2, 1)
  expect([successor.position, successor.missed]).toEqual([2, 0])
})

test('a sonar computes the distance from the time of the echo', () => {
  const [trigger, pulses] = wired('output')
  const echo = new TestInput()
  const sonar = new Sonar(trigger, echo.input)
  sonar.tick(0.01)
  sonar.tick(0.01)
  expect([pulses, sonar.mm]).toEqual([[1, 0], null])
  echo.at(1, 1)
  echo.at(6.825, 0)
  // 343.42 m/s at 20 degrees C
  expect(sonar.mm).toBeCloseTo(1000.2, 1)
  for (let tick = 0; tick < 6; tick++) sonar.tick(0.01)
  expect(pulses).toEqual([1, 0, 1, 0])
  expect(sonar.mm).toBeCloseTo(1000.2, 1)
  // no echo: known at the next trigger
  for (let tick = 0; tick < 6; tick++) sonar.tick(0.01)
  expect(sonar.mm).toBeNull()
  // too far, an edge lost, an echo that began before this program
  echo.at(100, 1)
  echo.at(138, 0)
  expect(sonar.mm).toBeNull()
  echo.at(200, 1)
  echo.at(201, 0, false)
  echo.at(202, 1, false)
  echo.at(203, 0)
  expect(sonar.mm).toBeNull()
  sonar.close()
  const late = new Sonar(trigger, echo.input, { temperature: 0, maxMm: 10_000 })
  echo.at(300, 0)
  expect(late.mm).toBeNull()
  echo.at(400, 1)
  echo.at(420, 0)
  expect(late.mm).toBeCloseTo(3313, 5)
})
