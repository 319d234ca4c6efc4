import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { SCALE } from '../e2e/eventually.ts'
import type { TestRobot } from '../e2e/robot.ts'
import { LONG, live, progress, ROUNDS, untilSafe, victim } from './deaths.ts'
import { heldLines, inRig } from './guest.ts'
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
})
