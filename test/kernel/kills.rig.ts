import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { eventually, SCALE } from '../e2e/eventually.ts'
import type { TestRobot } from '../e2e/robot.ts'
import { BODY_MS, HEARTBEAT_MS, isSafe, LINE } from './board.ts'
import { LONG, live, progress, ROUNDS, rounds, untilSafe, victim, WITHIN_MS } from './deaths.ts'
import { heldLines, inRig, pull } from './guest.ts'
import { summary } from './summary.ts'
import { trace } from './trace.ts'

/** One robot for all tests, as starting one takes longer here than five rounds. */
describe.runIf(inRig)('deaths over lines of a real kernel', () => {
  let robot: TestRobot
  beforeAll(async () => {
    robot = await victim()
  })
  // a failed test may have left the inputs high
  afterEach(() => {
    pull(LINE.button, 0)
    pull(LINE.stop, 0)
  })
  afterAll(async () => robot?.close())

  test(`HANDLES 6.6: safe levels are driven after a program is killed, ${ROUNDS} times`, LONG, async () => {
    await rounds(robot, 'program killed', WITHIN_MS, (pid) => void process.kill(pid, 'SIGKILL'))
  })

  test(`HANDLES 6.6: safe levels are driven after a program hangs, ${ROUNDS} times`, LONG, async () => {
    const release = async () => pull(LINE.button, 0)
    const what = `program hangs (heartbeat ${HEARTBEAT_MS * SCALE} ms)`
    await rounds(robot, what, HEARTBEAT_MS + WITHIN_MS, () => pull(LINE.button, 1), release)
  })

  test(`HANDOVER 8.3: no line changes when the endpoint is killed, ${ROUNDS} times`, LONG, async () => {
    for (let i = 0; i < ROUNDS; i++) {
      const { pid } = await live(robot)
      const kernel = trace()
      process.kill(robot.endpoint(), 'SIGKILL')
      await sleep(100 * SCALE)
      const events = kernel.stop().filter((event) => event.what !== 'pwm')
      expect(events.filter((event) => event.what !== 'level')).toEqual([])
      expect(
        events.filter(
          (event) => event.what === 'level' && event.action === 'set' && event.line !== LINE.hold3 && event.level === 0,
        ),
      ).toEqual([])
      await robot.reconnect()
      expect((await robot.slot()).pid).toBe(pid)
      progress('endpoint killed', i)
    }
  })

  test(`HANDLES 6.7: safe levels are driven at the emergency stop's input, ${ROUNDS} times`, LONG, async () => {
    const times: number[] = []
    for (let i = 0; i < ROUNDS; i++) {
      await live(robot)
      pull(LINE.stop, 1)
      times.push(untilSafe(WITHIN_MS * SCALE))
      await eventually(async () => (await robot.client.status()).estop !== null)
      expect((await robot.push('hangs-when-told', { version: '9.0.0' })).code).toBe('estopped')
      expect((await robot.events(robot.client.release())).code).toBe('estopped')
      pull(LINE.stop, 0)
      expect((await robot.events(robot.client.release())).outcome).toBe('released')
      await sleep(50 * SCALE)
      expect(isSafe()).toBe(true)
      expect((await robot.events(robot.client.start('main'))).outcome).toBe('started')
      progress('emergency stop', i)
    }
    console.log(`emergency stop: to safe levels ${summary(times)}`)
  })

  for (const [what, both] of [
    ['body', false],
    ['body and program', true],
  ] as const) {
    test(
      `HANDLES 14: after ${what} killed, safe levels are driven and lines stay requested, ${ROUNDS} times`,
      LONG,
      async () => {
        const held = heldLines()
        const kernel = trace()
        const times: number[] = []
        for (let i = 0; i < ROUNDS; i++) {
          const { pid } = await live(robot)
          // the program first: after the body's death it may be gone already
          if (both) process.kill(pid, 'SIGKILL')
          const gone = robot.end('SIGKILL')
          // 150 ms of the guard (HANDLES 14.2), and the time until it sees the end of a killed body
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
        await robot.reconnect()
        console.log(`${what} killed: to safe levels ${summary(times)}`)
      },
    )
  }

  test(
    `HANDLES 14.12: the emergency stop's input works while the body stands still, ${ROUNDS} times`,
    LONG,
    async () => {
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
    },
  )

  test('HANDLES 14.11: the guard ends a body that stands still, and the next body takes over', LONG, async () => {
    const { pid } = await live(robot)
    const held = heldLines()
    process.kill(robot.pid, 'SIGSTOP')
    const ms = untilSafe((BODY_MS + WITHIN_MS) * SCALE)
    await robot.end()
    expect(heldLines()).toEqual(held)
    await robot.begin({ wait: false })
    await live(robot, pid)
    console.log(`a body that stands still for ${BODY_MS * SCALE} ms: safe levels after ${ms.toFixed(0)} ms`)
    await robot.reconnect()
  })
})
