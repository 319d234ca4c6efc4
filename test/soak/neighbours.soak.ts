/**
 * Only with `--long`: pushes in eight slots at once, beside a 1 kHz writer in a ninth. It must not lose a tick; how late it is,
 * is reported.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SCALE } from '../e2e/eventually.ts'
import { ended, TestRobot } from '../e2e/robot.ts'
import { accepted, countOf, type Entry, expectOneWriter } from '../e2e/trace.ts'
import { summary } from '../kernel/summary.ts'
import { boardOf, bundleOf } from './writers.ts'

const SLOTS = 8
const ROUNDS = 3

let robot: TestRobot
const LONG = process.env.MEDULLA_LONG === '1'

beforeAll(async () => {
  if (LONG) robot = await TestRobot.start({}, {}, { more: boardOf(SLOTS + 1) })
})
afterAll(async () => robot?.close())

/** ms after the time at which a tick was due: a period after the one before, whenever that came. */
function lateness(entries: readonly Entry[]): number[] {
  const times = accepted(entries, `dial${SLOTS}`).map(({ ns }) => ns)
  return times.slice(1).map((ns, i) => Math.max(0, Number(ns - (times[i] ?? ns)) / 1e6 - 1))
}

const send = async (slot: number): Promise<string> => {
  const { bytes } = await bundleOf(robot, slot, 'counter')
  const { outcome, code } = await ended(robot.client.push(`s${slot}`, bytes))
  return code === undefined ? outcome : `${outcome}: ${code}`
}

test.runIf(LONG)(
  `${ROUNDS} rounds of pushes in ${SLOTS} slots at once lose no tick of another`,
  {
    timeout: 600_000 * SCALE,
  },
  async () => {
    for (let slot = 0; slot <= SLOTS; slot++) expect(await send(slot)).toBe('committed')
    const before = await robot.running(-1, `s${SLOTS}`)
    const start = robot.trace.mark()
    const [first] = await robot.trace.more(`dial${SLOTS}`, 3000)
    const pushing = robot.trace.mark()
    const outcomes: string[] = []
    for (let round = 0; round < ROUNDS; round++) {
      outcomes.push(...(await Promise.all(Array.from({ length: SLOTS }, (_, slot) => send(slot)))))
    }
    const entries = robot.trace.read()
    const ends = new Map<string, number>()
    for (const outcome of outcomes) ends.set(outcome, (ends.get(outcome) ?? 0) + 1)
    console.log(
      [
        `  pushes in ${SLOTS} slots at once: ${[...ends].map(([outcome, n]) => `${n} ${outcome}`).join(', ')}`,
        `  a tick of the ninth comes late, quiet: ${summary(lateness(entries.slice(start, pushing)))}`,
        `  the same during the pushes:            ${summary(lateness(entries.slice(pushing)))}`,
      ].join('\n'),
    )
    const dial = accepted(entries.slice(start), `dial${SLOTS}`)
    expect(dial.map(countOf)).toEqual(dial.map((_, i) => countOf(first as Entry) + i))
    expect(await robot.running(-1, `s${SLOTS}`)).toMatchObject({
      pid: before.pid,
      fence: before.fence,
      restarts: before.restarts,
    })
    expectOneWriter(entries)
  },
)
