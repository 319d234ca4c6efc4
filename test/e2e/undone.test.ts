import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Outcome } from '../../deploy/api.ts'
import type { RefusalCode } from '../../deploy/errors.ts'
import { build } from './programs.ts'
import { TestRobot } from './robot.ts'
import { counts, expectNoTickLost } from './trace.ts'

/** Each is pushed over a program that counts. What it does wrong is in test/programs/NAME.ts. */
interface Bad {
  name: string
  code: RefusalCode
  /** part of the reason */
  says?: string
  /** it drove the hardware for a while: the receipt has a gap */
  tookOver?: true
  /** the old program goes on with the state that the new one gave back, not with the one it parked with */
  givesBack?: true
  outcome?: Outcome
}

const BAD: readonly Bad[] = [
  { name: 'throws-at-import', code: 'died-at-start', says: 'no such library' },
  { name: 'throws-in-run', code: 'died-at-start', says: 'the gripper is not calibrated' },
  { name: 'throws-in-tick', code: 'died-at-start', says: 'division by zero' },
  { name: 'exits-at-import', code: 'died-at-start' },
  { name: 'unserialisable', code: 'bad-state', says: 'state.seen is a Map' },
  { name: 'endless-line', code: 'died-at-start' },
  { name: 'dies-after-ready', code: 'takeover-failed' },
  { name: 'throws-in-migrate', code: 'migrate-failed', says: 'n is in the wrong unit' },
  { name: 'no-way-up', code: 'migrate-failed', says: 'no migrate.up' },
  { name: 'dies-in-trial', code: 'died-in-trial', says: 'lost count after the real state', tookOver: true },
  { name: 'exits-in-trial', code: 'died-in-trial', tookOver: true },
  { name: 'garbles-control', code: 'died-in-trial', says: 'not in the protocol', tookOver: true },
  { name: 'unhealthy', code: 'unhealthy', says: 'the arm is too hot', tookOver: true, givesBack: true },
  { name: 'no-way-back', code: 'unhealthy', tookOver: true },
  { name: 'lies-when-undone', code: 'unhealthy', tookOver: true },
  { name: 'spins', code: 'heartbeat-lost', tookOver: true },
  { name: 'spins-late', code: 'heartbeat-lost', tookOver: true },
]

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start()
  await robot.commit('counter')
})
afterAll(async () => robot?.close())

describe('executed, then undone: the old program runs on with its state', () => {
  test.each(BAD)('$name: $code', async ({ name, code, says, tookOver, givesBack }) => {
    const before = await robot.running()
    const mark = robot.trace.mark()
    await robot.trace.more('dial')
    const { outcome, message, receipt, ...pushed } = await robot.push(name)
    expect({ outcome, code: pushed.code, message }).toMatchObject({ outcome: 'rolled-back', code })
    if (says !== undefined) expect(message).toContain(says)
    expect(message).toContain('counter 1.0.0 runs on')
    await robot.trace.more('dial')

    const after = await robot.running()
    expect(after).toMatchObject({ pid: before.pid, digest: before.digest, restarts: before.restarts })
    const seen = robot.trace.since(mark)
    expectNoTickLost(seen)
    expect(counts(seen)[0]).toBeGreaterThan(1)
    if (tookOver) expect(after.fence).toBeGreaterThan(before.fence + 1)

    expect(robot.receipt()).toEqual(receipt)
    expect(receipt).toMatchObject({ outcome: 'rolled-back', code, from: before.digest, program: name })
    // HANDOVER 1.1
    expect(receipt?.phases.at(-1)?.phase).toBe('undo')
    if (tookOver) expect(receipt?.gapMs).toBeGreaterThan(0)
    else expect(receipt?.gapMs).toBe(null)
    if (tookOver && !givesBack) expect(receipt?.stateAgeMs).toBeGreaterThan(0)
    else expect(receipt?.stateAgeMs).toBe(undefined)
    robot.check(mark)
  })

  test('what a program of the table wrote was undone without a twitch: no held line has an edge', () => {
    robot.check()
    const outcomes = robot.receipts().map((receipt) => receipt.outcome)
    expect(outcomes.filter((outcome) => outcome === 'rolled-back')).toHaveLength(BAD.length)
    expect(outcomes.filter((outcome) => outcome === 'crashed' || outcome === 'restarted')).toEqual([])
  })
})

describe('G12: who does not get ready in time never takes over', { tags: ['slow'] }, () => {
  let quick: TestRobot

  beforeAll(async () => {
    // its deadline must be long enough for a good program on a busy machine
    quick = await TestRobot.start({ readyMs: 1000 })
    await quick.commit('counter')
  })
  afterAll(async () => quick?.close())

  test.each(['blocks-at-import', 'blocks-in-run'])('%s: never-ready', async (name) => {
    const before = await quick.running()
    const mark = quick.trace.mark()
    const pushed = await quick.push(name)
    expect(pushed).toMatchObject({ outcome: 'rolled-back', code: 'never-ready' })
    await quick.trace.more('dial')
    expect(await quick.running()).toMatchObject({ pid: before.pid, fence: before.fence })
    expectNoTickLost(quick.trace.since(mark))
    expect(new Set(quick.trace.since(mark).map(({ fence }) => fence))).toEqual(new Set([before.fence]))
    quick.check()
  })
})

test('every bad program is built by the product itself, without complaint', async () => {
  const names = [...BAD.map(({ name }) => name), 'blocks-at-import', 'blocks-in-run']
  for (const name of names) expect((await build(name)).manifest.program).toBe(name)
})
