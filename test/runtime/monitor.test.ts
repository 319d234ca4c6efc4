import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Monitor } from '../../runtime/body/slot/monitor.ts'
import { connection, stall } from './stalled.ts'

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

test('HANDOVER 7.1: heartbeats that were sent in the trial prove nothing when a late body reads them after its end', async () => {
  vi.useRealTimers()
  const [program, body] = await connection()
  body.on('data', (beats: Buffer) => {
    for (const _ of beats) monitor.beat()
  })
  await sleep(5)
  monitor.beginTrial(100)
  program.write(Buffer.alloc(5))
  stall(150)
  // only then did the program hang
  await expect.poll(() => said).toEqual(['lost'])
  for (const socket of [program, body]) socket.destroy()
})
