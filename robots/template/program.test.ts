// Runs the program on a simulated board in simulated time: an hour takes seconds.
import { simulate } from 'medulla/test'
import { expect, test } from 'vitest'

const board = { handles: { led: { kind: 'output', line: 'GPIO17', safe: 0 } } }

test('the led blinks, a new version goes on counting, and the led is off after a stop', async () => {
  const sim = await simulate(() => import('./program.ts'), { board })
  await sim.run('600ms')
  sim.assertStatesAndTimes('led', [
    [1, 0],
    [0, 250],
    [1, 500],
  ])
  await sim.swap(() => import('./program.ts'))
  expect(sim.log.at(-1)?.text).toBe('template goes on at blink 2')
  await sim.run('10m')
  expect(sim.state).toEqual({ blinks: 1202 })
  await sim.stop()
  expect(sim.value('led')).toBe(0)
}, 30_000)
