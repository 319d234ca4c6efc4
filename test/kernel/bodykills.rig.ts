import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually, SCALE } from '../e2e/eventually.ts'
import type { TestRobot } from '../e2e/robot.ts'
import { BODY_MS, LINE } from './board.ts'
import { LONG, live, progress, ROUNDS, untilSafe, victim, WITHIN_MS } from './deaths.ts'
import { heldLines, inRig, pull } from './guest.ts'
import { summary } from './summary.ts'
import { trace } from './trace.ts'

describe.runIf(inRig)('deaths of the body over lines of a real kernel', () => {
  let robot: TestRobot
  beforeAll(async () => {
    robot = await victim()
  })
  afterAll(async () => robot?.close())

  for (const [what, both] of [
    ['body', false],
    ['body and program', true],
  ] as const) {
    test(`HANDLES 14: ${what} killed, ${ROUNDS} times: safe levels, and the lines are never let go`, LONG, async () => {
      const held = heldLines()
      const kernel = trace()
      const times: number[] = []
      for (let i = 0; i < ROUNDS; i++) {
        const { pid } = await live(robot)
        // the program first: a dead body may have been its end already
        if (both) process.kill(pid, 'SIGKILL')
        const gone = robot.end('SIGKILL')
        times.push(untilSafe(1000 * SCALE))
        await gone
        expect(heldLines()).toEqual(held)
        await robot.begin({ wait: false })
        await live(robot, pid)
        const events = kernel.events().filter(({ what }) => what !== 'level' && what !== 'pwm')
        expect(events).toEqual([])
        kernel.clear()
        progress(`${what} killed`, i)
      }
      kernel.stop()
      await robot.end()
      await robot.begin()
      console.log(`${what} killed: to safe levels ${summary(times)}`)
    })
  }

  test(`HANDLES 14.12: the emergency stop's input while the body stands still, ${ROUNDS} times`, LONG, async () => {
    const times: number[] = []
    for (let i = 0; i < ROUNDS; i++) {
      await live(robot)
      process.kill(robot.pid, 'SIGSTOP')
      pull(LINE.stop, 1)
      times.push(untilSafe(WITHIN_MS * SCALE))
      process.kill(robot.pid, 'SIGCONT')
      await eventually(async () => (await robot.client.status()).estop !== null)
      pull(LINE.stop, 0)
      await eventually(async () => (await robot.events(robot.client.release())).outcome === 'released')
      expect((await robot.events(robot.client.start('main'))).outcome).toBe('started')
      progress('emergency stop, body stopped', i)
    }
    console.log(`emergency stop while the body stands still: to safe levels ${summary(times)}`)
  })

  test('HANDLES 14.11: a body that stands still is ended by the guard, and the next one takes over', LONG, async () => {
    const { pid } = await live(robot)
    const held = heldLines()
    process.kill(robot.pid, 'SIGSTOP')
    const ms = untilSafe((BODY_MS + WITHIN_MS) * SCALE)
    await robot.end()
    expect(heldLines()).toEqual(held)
    await robot.begin({ wait: false })
    await live(robot, pid)
    console.log(`a body that stands still for ${BODY_MS * SCALE} ms: safe levels after ${ms.toFixed(0)} ms`)
    await robot.end()
    await robot.begin()
  })
})
