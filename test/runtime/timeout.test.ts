import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { Timeout } from '../../runtime/body/timeout.ts'
import { eventually } from '../e2e/eventually.ts'

const timeout = new Timeout()
afterEach(() => timeout.clear())

/** Blocks the event loop, as a machine with other things to do blocks a process. */
function stall(ms: number): void {
  for (const until = performance.now() + ms; performance.now() < until; );
}

test('HANDOVER 10.3: what came while this process stood still is read before a deadline counts', async () => {
  let late = false
  timeout.set(30, () => {
    late = true
  })
  // as a heartbeat that waits in a socket: it is read after the timers of the same round of the loop
  setImmediate(() => timeout.clear())
  stall(200)
  await sleep(150)
  expect(late).toBe(false)
})

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
