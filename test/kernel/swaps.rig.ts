import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually, SCALE } from '../e2e/eventually.ts'
import { TestRobot } from '../e2e/robot.ts'
import { boardText, LINE, PATIENT } from './board.ts'
import { i2cCounts, inRig, pull } from './guest.ts'
import { summary } from './summary.ts'
import { type TraceEvent, trace } from './trace.ts'

/** More swaps with `npm run test:kernel -- --long`. */
const SWAPS = process.env.MEDULLA_LONG === '1' ? 1000 : Number(process.env.MEDULLA_SWAPS ?? 100)
const HELD = [LINE.hold1, LINE.hold2, LINE.hold3, LINE.hold4] as const
const DEVICES = [
  [1, 0x68],
  [1, 0x40],
] as const

/** A push takes about 5 s in the rig. */
async function unanswered(): Promise<never> {
  await sleep(30_000 * SCALE, undefined, { ref: false })
  throw new Error('a push got no answer')
}

describe.runIf(inRig)('swaps over lines and devices of a real kernel', () => {
  let robot: TestRobot
  beforeAll(async () => {
    robot = await TestRobot.start({}, {}, { board: boardText(PATIENT) })
    await robot.commit('six-lines')
  })
  afterAll(async () => robot?.close())

  test(`HANDOVER 6.6: G9, P9: ${SWAPS} swaps: no edge on a held line, nothing requested, opened or initialised, every edge once`, {
    timeout: SWAPS * 20_000 + 60_000,
  }, async () => {
    const gaps: number[] = []
    const fences: number[] = []
    const edges: number[] = []
    let pulls = 0
    const kernel = trace()
    const before = DEVICES.map(([bus, address]) => i2cCounts(bus, address))
    const seen = { level: [] as TraceEvent[], other: [] as TraceEvent[] }
    const collect = (events: TraceEvent[]) => {
      for (const event of events) {
        if (event.what === 'level') {
          if (event.action === 'set') seen.level.push(event)
        } else if (event.what !== 'pwm') seen.other.push(event)
      }
    }
    // The log keeps 2,000 lines, fewer than there are edges. The last edge may not be in the log yet.
    const readEdges = () =>
      eventually(async () => {
        const lines = await robot.logs('main', 10_000)
        const told = lines.flatMap(({ text }) => [...text.matchAll(/^edge (\d+) ([01]) \d+$/g)])
        const numbers = told.map(([, seqno]) => Number(seqno))
        const from = numbers.indexOf(edges.at(-1) ?? 0) + 1
        return Number(told.at(-1)?.[2]) === pulls % 2 && edges.push(...numbers.slice(from)) > 0
      })
    for (let i = 0; i < SWAPS; i++) {
      // one edge before the swap, one during it, one after
      const pushed = robot.commit('six-lines', { version: `1.${i % 2}.0` })
      pull(LINE.button, ((pulls++ + 1) % 2) as 0 | 1)
      const receipt = await Promise.race([pushed, unanswered()])
      pull(LINE.button, ((pulls++ + 1) % 2) as 0 | 1)
      expect(receipt.confined).toBe(true)
      gaps.push(receipt.gapMs as number)
      fences.push(receipt.fenceMs as number)
      if (i % 20 === 19 || i === SWAPS - 1) {
        collect(kernel.events())
        kernel.clear()
        await readEdges()
        process.stderr.write(`swap ${i + 1} of ${SWAPS}\n`)
      }
    }
    collect(kernel.stop())
    console.log(`gap ${summary(gaps)}\nrecord to confirmed stop ${summary(fences)}`)

    // held lines are written all the time, but never change
    for (const line of HELD) {
      const levels = seen.level.filter((event) => event.what === 'level' && event.line === line)
      expect(levels.length).toBeGreaterThan(SWAPS)
      expect(levels.filter((event) => event.what === 'level' && event.level === 0)).toEqual([])
    }
    expect(seen.other).toEqual([])
    const after = DEVICES.map(([bus, address]) => i2cCounts(bus, address))
    expect(after.map(({ inits }) => inits)).toEqual(before.map(({ inits }) => inits))
    expect(after.every(({ transfers }, i) => transfers > (before[i]?.transfers ?? 0) + SWAPS)).toBe(true)
    // The kernel numbers edges from 1: each number once, in order. On a busy machine gpio-sim may lose two pulls.
    expect(edges).toEqual(edges.map((_, i) => i + 1))
    expect(edges.length).toBeGreaterThan(SWAPS)
  })

  test('a program that dies in its trial is undone, and no held line has an edge', async () => {
    const before = await robot.running()
    const kernel = trace()
    const undone = await robot.push('dies-over-lines', { program: 'six-lines', version: '2.0.0' })
    expect(undone).toMatchObject({ outcome: 'rolled-back', code: 'died-in-trial' })
    expect(await robot.running()).toMatchObject({ pid: before.pid, digest: before.digest, restarts: before.restarts })
    const seen: TraceEvent[] = []
    // the previous program drives the outputs again
    await eventually(() => {
      seen.push(...kernel.events())
      kernel.clear()
      return seen.some((event) => event.what === 'level' && event.action === 'set' && event.pid === before.pid)
    })
    seen.push(...kernel.stop())
    const held = new Set<number>(HELD)
    expect(seen.filter((e) => e.what === 'level' && e.action === 'set' && held.has(e.line) && e.level === 0)).toEqual(
      [],
    )
    expect(seen.filter(({ what }) => what !== 'level' && what !== 'pwm')).toEqual([])
  })
})
