import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { Budget } from '../../../runtime/plumbing/budget.ts'
import { readLines } from '../../../runtime/plumbing/lines.ts'
import { eventually } from '../../e2e/eventually.ts'

const ALLOWANCE = { messagesPerSecond: 100, bytesPerSecond: 1000, burstSeconds: 2, endAfterMs: 2900 }

test('HANDOVER 8.7: a budget starts with its burst, is used up by messages or bytes, and refills with time', () => {
  let now = 0
  const budget = new Budget(ALLOWANCE, () => now)
  budget.spend(200, 0)
  expect(budget.waitMs).toBe(0)
  budget.spend(10, 0)
  expect(budget.waitMs).toBe(101)
  now += 101
  expect(budget.waitMs).toBe(0)
  budget.spend(0, 5000)
  const waitMs = budget.waitMs
  expect(waitMs).toBeGreaterThan(2900)
  now += waitMs
  expect(budget.waitMs).toBe(0)
  expect(budget.isFlooded).toBe(true)
  // after an idle day it holds the burst, and no more
  now += 86_400_000
  expect(budget.waitMs).toBe(0)
  expect(budget.isFlooded).toBe(false)
  budget.spend(201, 0)
  expect(budget.waitMs).toBeGreaterThan(0)
})

test('HANDOVER 8.7: a peer beyond its budget is not read for a while, and none of its lines is lost or reordered', async () => {
  const from = new PassThrough()
  const got: number[] = []
  const budget = new Budget({ messagesPerSecond: 2000, bytesPerSecond: 1e9, burstSeconds: 0.05 })
  readLines(
    from,
    100,
    (line) => got.push(Number(line)),
    () => {},
    budget,
  )
  const began = performance.now()
  for (let i = 0; i < 1000; i++) from.write(`${i}\n`)
  await eventually(() => got.length === 1000)
  expect(got).toEqual(Array.from({ length: 1000 }, (_, i) => i))
  // The burst is 100 lines. The other 900 are read at 2,000 a second, which takes 450 ms.
  expect(performance.now() - began).toBeGreaterThan(400)
})

test('HANDOVER 8.7: many lines of one peer are handled in slices, so that other events get their turn', async () => {
  const from = new PassThrough({ highWaterMark: 1024 * 1024 })
  let got = 0
  const spin = () => {
    got++
    for (const end = performance.now() + 0.2; performance.now() < end; );
  }
  readLines(from, 100, spin, () => {})
  from.write('x\n'.repeat(2000))
  let turns = 0
  const turn = setInterval(() => turns++, 1)
  await eventually(() => got === 2000)
  clearInterval(turn)
  // 400 ms of work in slices of 2 ms
  expect(turns).toBeGreaterThan(50)
})

test('when a peer ends, its pending lines are delivered at once', async () => {
  const from = new PassThrough()
  const got: string[] = []
  const budget = new Budget({ messagesPerSecond: 1, bytesPerSecond: 1e9, burstSeconds: 1 })
  const { deliver } = readLines(
    from,
    100,
    (line) => got.push(line),
    () => {},
    budget,
  )
  from.write('a\nb\nc\n')
  await eventually(() => got.length > 0)
  deliver()
  expect(got).toEqual(['a', 'b', 'c'])
})

test('an endless line ends its peer, with or without lines before it', async () => {
  for (const before of ['', 'ok\n']) {
    const from = new PassThrough()
    const got: string[] = []
    let cut = 0
    readLines(
      from,
      10,
      (line) => got.push(line),
      () => cut++,
    )
    from.write(`${before}${'x'.repeat(11)}`)
    await eventually(() => cut > 0 || got.length > 0)
    from.write('y')
    await eventually(() => cut === 1)
    from.write('\nmore\n')
    await new Promise(setImmediate)
    expect(got).toEqual(before === '' ? [] : ['ok'])
    expect(cut).toBe(1)
  }
})
