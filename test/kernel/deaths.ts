/** Programs and bodies that die in the rig, round after round, with the time until the lines are safe. */
import { eventually, SCALE } from '../e2e/eventually.ts'
import { TestRobot } from '../e2e/robot.ts'
import { boardText, isSafe, LINE, outputs } from './board.ts'
import { levelOf, pull, sleepMs } from './guest.ts'
import { summary } from './summary.ts'

export const ROUNDS = process.env.MEDULLA_LONG === '1' ? 100 : Number(process.env.MEDULLA_KILLS ?? 10)
export const LONG = { timeout: ROUNDS * 60_000 + 120_000 }

/** HANDLES 6.6 */
export const WITHIN_MS = 250

/** Polls the lines themselves. */
export function untilSafe(limitMs: number): number {
  const began = performance.now()
  while (!isSafe()) {
    // the only processor is needed elsewhere
    sleepMs(1)
    if (performance.now() - began > limitMs) throw new Error(`not at safe levels: ${JSON.stringify(outputs())}`)
  }
  return performance.now() - began
}

/** Each tenth round, so that whoever waits sees that the machine goes on. */
export function progress(what: string, round: number): void {
  if (round % 10 === 9) process.stderr.write(`${what}: ${round + 1} of ${ROUNDS}\n`)
}

/** A robot that runs a program which drives its outputs away from their safe levels. */
export async function victim(): Promise<TestRobot> {
  pull(LINE.button, 0)
  pull(LINE.stop, 0)
  const robot = await TestRobot.start({}, {}, { board: boardText({ estop: { input: 'stop', level: 1 } }) })
  await robot.commit('hangs-when-told')
  return robot
}

/** Its outputs are where it drives them. */
export const live = (robot: TestRobot, not = -1) =>
  eventually(() => {
    const pid = robot.programPid
    return pid !== undefined && pid !== not && levelOf(LINE.toggle) === 1 && levelOf(LINE.hold3) === 0 && { pid }
  })

export async function rounds(
  robot: TestRobot,
  what: string,
  limitMs: number,
  kill: (pid: number) => Promise<void> | void,
  after = async () => {},
): Promise<void> {
  const times: number[] = []
  for (let i = 0; i < ROUNDS; i++) {
    const { pid } = await live(robot)
    await kill(pid)
    times.push(untilSafe(limitMs * SCALE))
    await after()
    await live(robot, pid)
    progress(what, i)
  }
  console.log(`${what}: to safe levels ${summary(times)}`)
}
