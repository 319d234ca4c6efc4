import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { Timeout } from '../../runtime/plumbing/timeout.ts'
import { eventually } from '../e2e/eventually.ts'
import { connection, stall } from './stalled.ts'

const timeout = new Timeout()
afterEach(() => timeout.clear())

// the first is late by less than what gets extra time, the second by more
test.each([40, 200])(
  'HANDOVER 10.3: what came in %i ms in which this process stood still is read before a deadline counts',
  async (ms) => {
    const [program, body] = await connection()
    let late = false
    body.on('data', () => timeout.clear())
    await sleep(5)
    timeout.set(20, () => {
      late = true
    })
    // the heartbeat is in the socket, and the timer is overdue when the loop goes on
    program.write('heartbeat')
    stall(ms)
    await sleep(200)
    expect(late).toBe(false)
    for (const socket of [program, body]) socket.destroy()
  },
)

test('HANDOVER 10.3: after standing still, the other gets as long again, at most 100 ms', async () => {
  let lateAfter = 0
  const from = performance.now()
  timeout.set(30, () => {
    lateAfter = performance.now() - from
  })
  stall(400)
  await eventually(() => lateAfter > 0)
  expect(lateAfter).toBeGreaterThanOrEqual(499)
})

test('a deadline that nothing meets is late once, and one that is cleared or replaced is not', async () => {
  const said: string[] = []
  timeout.set(10, () => said.push('replaced'))
  timeout.set(10, () => said.push('late'))
  await eventually(() => said.length > 0)
  await sleep(30)
  expect(said).toEqual(['late'])
  expect(timeout.isSet).toBe(false)
  timeout.set(10, () => said.push('cleared'))
  timeout.clear()
  await sleep(30)
  expect(said).toEqual(['late'])
})
