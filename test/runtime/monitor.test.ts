import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Monitor } from '../../runtime/body/monitor.ts'

let said: string[]
let monitor: Monitor

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setImmediate', 'clearImmediate', 'performance'] })
  said = []
  monitor = new Monitor(
    250,
    () => said.push('lost'),
    () => said.push('proved'),
  )
})
afterEach(() => vi.useRealTimers())

const beatAfter = (ms: number) => {
  vi.advanceTimersByTime(ms)
  monitor.beat()
}

test('HANDOVER 7.1: three heartbeats within the trial prove nothing: the last must come after it', () => {
  monitor.beginTrial(1000)
  for (let i = 0; i < 9; i++) beatAfter(100)
  expect(said).toEqual([])
  beatAfter(101)
  expect(said).toEqual(['proved'])
  beatAfter(100)
  expect(said).toEqual(['proved'])
})

test('HANDOVER 7.1: after the end of the trial it still takes three', () => {
  monitor.beginTrial(100)
  beatAfter(150)
  beatAfter(100)
  expect(said).toEqual([])
  beatAfter(100)
  expect(said).toEqual(['proved'])
})

test('HANDOVER 9.2: silence is lost, once, in the trial and after it; a program at rest is not watched', () => {
  monitor.beginTrial(100)
  beatAfter(200)
  vi.advanceTimersByTime(249)
  expect(said).toEqual([])
  vi.advanceTimersByTime(1)
  // what has come meanwhile is read first
  vi.advanceTimersByTime(1)
  expect(said).toEqual(['lost'])
  monitor.beat()
  vi.advanceTimersByTime(1000)
  expect(said).toEqual(['lost'])
  monitor.watch()
  monitor.rest()
  vi.advanceTimersByTime(1000)
  expect(said).toEqual(['lost'])
})
