import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually, SCALE } from '../e2e/eventually.ts'
import { TestRobot } from '../e2e/robot.ts'
import { boardText, isSafe, LINE, outputs } from './board.ts'
import { heldLines, inRig, levelOf, pull, sleepMs } from './guest.ts'
import { summary } from './summary.ts'
import { trace } from './trace.ts'

const ROUNDS = process.env.MEDULLA_LONG === '1' ? 100 : Number(process.env.MEDULLA_KILLS ?? 10)

/** HANDLES 6.6 */
const WITHIN_MS = 250

/** Polls the lines themselves. */
function untilSafe(limitMs: number): number {
  const began = performance.now()
  while (!isSafe()) {
    // the only processor is needed elsewhere
    sleepMs(1)
    if (performance.now() - began > limitMs) throw new Error(`not at safe levels: ${JSON.stringify(outputs())}`)
  }
  return performance.now() - began
}

describe.runIf(inRig)('deaths over lines of a real kernel', () => {
  let robot: TestRobot
  beforeAll(async () => {
    pull(LINE.button, 0)
    pull(LINE.stop, 0)
    robot = await TestRobot.start({}, {}, { board: boardText({ estop: { input: 'stop', level: 1 } }) })
    await robot.commit('hangs-when-told')
  })
  afterAll(async () => robot?.close())

  /** Its outputs are where it drives them: away from the safe levels. */
  const live = (not = -1) =>
    eventually(() => {
      const pid = robot.programPid
      return pid !== undefined && pid !== not && levelOf(LINE.toggle) === 1 && levelOf(LINE.hold3) === 0 && { pid }
    })

  async function rounds(
    what: string,
    limitMs: number,
    kill: (pid: number) => Promise<void> | void,
    after = async () => {},
  ) {
    const times: number[] = []
    for (let i = 0; i < ROUNDS; i++) {
      const { pid } = await live()
      await kill(pid)
      times.push(untilSafe(limitMs * SCALE))
      await after()
      await live(pid)
    }
    console.log(`${what}: to safe levels ${summary(times)}`)
  }
  const LONG = { timeout: ROUNDS * 20_000 + 60_000 }

  test(`HANDLES 6.6: the program is killed, ${ROUNDS} times`, LONG, async () => {
    await rounds('program killed', WITHIN_MS, (pid) => void process.kill(pid, 'SIGKILL'))
  })

  test(`HANDLES 6.6: the program hangs, ${ROUNDS} times`, LONG, async () => {
    const release = async () => pull(LINE.button, 0)
    await rounds('program hangs (heartbeat 100 ms)', 100 + WITHIN_MS, () => pull(LINE.button, 1), release)
  })

  test(`HANDOVER 8.3: the endpoint is killed, ${ROUNDS} times, and no line moves`, LONG, async () => {
    for (let i = 0; i < ROUNDS; i++) {
      const { pid } = await live()
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
    }
  })

  for (const [what, both] of [
    ['body', false],
    ['body and program', true],
  ] as const) {
    test(`HANDLES 14: ${what} killed, ${ROUNDS} times: safe levels, and the lines are never let go`, LONG, async () => {
      const held = heldLines()
      const kernel = trace()
      const times: number[] = []
      for (let i = 0; i < ROUNDS; i++) {
        const { pid } = await live()
        const gone = robot.end('SIGKILL')
        if (both) process.kill(pid, 'SIGKILL')
        times.push(untilSafe(1000 * SCALE))
        await gone
        expect(heldLines()).toEqual(held)
        await robot.begin({ wait: false })
        await live(pid)
        const events = kernel.events().filter(({ what }) => what !== 'level' && what !== 'pwm')
        expect(events).toEqual([])
        kernel.clear()
      }
      kernel.stop()
      await robot.end()
      await robot.begin()
      console.log(`${what} killed: to safe levels ${summary(times)}`)
    })
  }

  test(`HANDLES 6.7: the emergency stop's input, ${ROUNDS} times`, LONG, async () => {
    const times: number[] = []
    for (let i = 0; i < ROUNDS; i++) {
      await live()
      pull(LINE.stop, 1)
      times.push(untilSafe(WITHIN_MS * SCALE))
      await eventually(async () => (await robot.client.status()).estop !== null)
      expect((await robot.push('hangs-when-told', { version: '9.0.0' })).code).toBe('estopped')
      expect((await robot.events(robot.client.estop(true))).code).toBe('estopped')
      pull(LINE.stop, 0)
      expect((await robot.events(robot.client.estop(true))).outcome).toBe('released')
      await sleep(50 * SCALE)
      expect(isSafe()).toBe(true)
      expect((await robot.events(robot.client.start('main'))).outcome).toBe('started')
    }
    console.log(`emergency stop: to safe levels ${summary(times)}`)
  })
})
