/** Kills programs and bodies in the rig, round after round, and measures the time until the lines are safe. */
import { eventually, SCALE } from '../e2e/eventually.ts'
import { TestRobot } from '../e2e/robot.ts'
import { boardText, isSafe, LINE, outputs } from './board.ts'
import { inUml, pull, sleepMs } from './guest.ts'
import { summary } from './summary.ts'

export const ROUNDS = process.env.MEDULLA_LONG === '1' ? 100 : Number(process.env.MEDULLA_KILLS ?? 10)
export const LONG = { timeout: ROUNDS * 60_000 + 120_000 }

/** Bound of HANDLES 6.6. */
export const WITHIN_MS = 250

/** The longest that reading the lines, plus a pause, should take: more is lateness of this process. */
const LOOK_MS = 20

/**
 * Polls the lines until they are safe, and returns the time. While this process was not scheduled the levels may have been safe
 * already, so that time does not count against the limit.
 */
export function untilSafe(limitMs: number): number {
  const began = performance.now()
  let counted = 0
  for (let last = began; !isSafe(); ) {
    // leaves the processor to the robot
    sleepMs(inUml ? 3 : 1)
    const now = performance.now()
    counted += Math.min(now - last, LOOK_MS)
    last = now
    if (counted > limitMs) throw new Error(`after ${limitMs} ms: ${JSON.stringify(outputs())}`)
  }
  return performance.now() - began
}

/** Prints every fifth round, to show that the machine goes on. */
export function progress(what: string, round: number): void {
  if (round % 5 === 4) process.stderr.write(`${what}: ${round + 1} of ${ROUNDS}\n`)
}

/** A robot that runs a program which drives its outputs away from their safe levels. */
export async function victim(): Promise<TestRobot> {
  pull(LINE.button, 0)
  pull(LINE.stop, 0)
  const robot = await TestRobot.start({}, {}, { board: boardText({ estop: { input: 'stop', level: 1 } }) })
  await robot.commit('hangs-when-told')
  return robot
}

/** Waits until the program has driven its outputs. */
export const live = (robot: TestRobot, not = -1) =>
  eventually(() => {
    // the cheap check first
    const { toggle, hold3 } = outputs()
    if (toggle !== 1 || hold3 !== 0) return false
    const pid = robot.programPid
    return pid !== undefined && pid !== not && { pid }
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
