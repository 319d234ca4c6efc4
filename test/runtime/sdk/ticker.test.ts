import { expect, test } from 'vitest'
import { Ticker } from '../../../runtime/sdk/ticker.ts'

const MS = 1e6
const NOW = 1e12

/** The ticker of a program with one `every(20)`, and the dt of its calls. */
function program(ms = 20): { ticker: Ticker; dts: number[] } {
  const dts: number[] = []
  const ticker = new Ticker({ afterTick: () => false, failed: () => {} })
  ticker.add(ms, (dt) => dts.push(Math.round(dt * 1e6) / 1e3))
  return { ticker, dts }
}

/** A schedule with the last tick at NOW and the next one 20 ms later. */
function ran(): Ticker {
  const { ticker } = program()
  ticker.align([], NOW)
  ticker.once(NOW)
  return ticker
}

test('HANDOVER 4.5: after a takeover the deadlines go on, and dt is the time since the last tick of the predecessor', () => {
  const { ticker, dts } = program()
  ticker.align(ran().schedule(), NOW + 3 * MS)
  expect(ticker.dueNs).toBe(NOW + 20 * MS)
  // the first tick is late by the takeover: dt includes it, and the next deadline does not move
  ticker.once(NOW + 22.5 * MS)
  ticker.once(NOW + 40 * MS)
  expect(dts).toEqual([22.5, 17.5])
  expect(ticker.dueNs).toBe(NOW + 60 * MS)
})

test('HANDOVER 4.5: with another period the first tick is due at once, with a dt of one period', () => {
  const { ticker, dts } = program(5)
  ticker.align(ran().schedule(), NOW + 3 * MS)
  expect(ticker.dueNs).toBe(NOW + 3 * MS)
  ticker.once(NOW + 3 * MS)
  expect(dts).toEqual([5])
})

test('HANDOVER 7.4: with an old schedule, or none, the first dt is one period', () => {
  for (const schedule of [ran().schedule(), []]) {
    const { ticker, dts } = program()
    ticker.align(schedule, NOW + 500 * MS)
    ticker.once(NOW + 500 * MS)
    expect(dts).toEqual([20])
  }
})
