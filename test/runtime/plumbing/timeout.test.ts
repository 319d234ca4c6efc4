import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { Timeout } from '../../../runtime/plumbing/timeout.ts'
import { eventually } from '../../e2e/eventually.ts'
import { connection, stall } from '../stalled.ts'

const timeout = new Timeout()
afterEach(() => timeout.clear())

// the first delay is too short for extra time, the second is not
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
    // when the loop goes on, the heartbeat is in the socket, and the timer is overdue
    program.write('heartbeat')
    stall(ms)
    await sleep(200)
    expect(late).toBe(false)
    for (const socket of [program, body]) socket.destroy()
  },
)

test('HANDOVER 10.3: after this process stood still, a deadline is extended by as long, at most 100 ms', async () => {
  let lateAfter = 0
  const from = performance.now()
  timeout.set(30, () => {
    lateAfter = performance.now() - from
  })
  stall(400)
  await eventually(() => lateAfter > 0)
  expect(lateAfter).toBeGreaterThanOrEqual(499)
})

test('a missed deadline is reported once, a cleared or replaced one is not', async () => {
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
