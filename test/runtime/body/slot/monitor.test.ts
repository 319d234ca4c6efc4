import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Monitor } from '../../../../runtime/body/slot/monitor.ts'
import { connection, stall } from '../../stalled.ts'

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

test('HANDOVER 7.1: a trial with three heartbeats is passed only if the last one comes after its end', () => {
  monitor.beginTrial(1000)
  for (let i = 0; i < 9; i++) beatAfter(100)
  expect(said).toEqual([])
  beatAfter(101)
  expect(said).toEqual(['proved'])
  beatAfter(100)
  expect(said).toEqual(['proved'])
})

test('HANDOVER 7.1: also after the end of the trial three heartbeats are needed', () => {
  monitor.beginTrial(100)
  beatAfter(150)
  beatAfter(100)
  expect(said).toEqual([])
  beatAfter(100)
  expect(said).toEqual(['proved'])
})

test('HANDOVER 9.2: silence is reported once, in the trial and after it; a parked program is not watched', () => {
  monitor.beginTrial(100)
  beatAfter(200)
  vi.advanceTimersByTime(249)
  expect(said).toEqual([])
  vi.advanceTimersByTime(1)
  // heartbeats that arrived meanwhile are read first
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

test('HANDOVER 7.1: heartbeats sent during the trial do not count as later ones when a late body reads them after its end', async () => {
  vi.useRealTimers()
  const [program, body] = await connection()
  body.on('data', (beats: Buffer) => {
    for (const _ of beats) monitor.beat()
  })
  await sleep(5)
  monitor.beginTrial(100)
  program.write(Buffer.alloc(5))
  stall(150)
  // the program hangs after these
  await expect.poll(() => said).toEqual(['lost'])
  for (const socket of [program, body]) socket.destroy()
})
