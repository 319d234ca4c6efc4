/** The program that runs is the one that misbehaves, and a good one is to take over from it. */
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { eventually, SCALE } from './eventually.ts'
import { ended, TestRobot } from './robot.ts'
import { accepted, countOf, counts, expectNoTickLost } from './trace.ts'

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start()
})
afterAll(async () => robot?.close())
beforeEach(async () => {
  const { slots } = await robot.client.status()
  if (slots.some(({ pid }) => pid !== undefined)) await ended(robot.client.stop('main'))
})

const gone = (pid: number) => () => !robot.children().some((child) => child.pid === pid)

test('it ignores yield: called off with yield-timeout, and it runs on; --force ends it, and its checkpoint goes on', async () => {
  await robot.commit('holds')
  const before = await robot.running()
  const mark = robot.trace.mark()
  const off = await robot.push('counter')
  expect(off).toMatchObject({ outcome: 'called-off', code: 'yield-timeout' })
  expect(off.message).toContain('the arm is moving')
  expect(robot.receipt()).toMatchObject({ outcome: 'called-off', code: 'yield-timeout', from: before.digest })
  await robot.trace.more('dial')
  expect(await robot.running()).toMatchObject({ pid: before.pid })
  expectNoTickLost(robot.trace.since(mark))

  // it was not the new one's fault: it may come again without --retry
  const { bytes } = await robot.bundle('counter', { program: 'holds', version: '2.0.0' })
  expect(await robot.send(bytes)).toMatchObject({ outcome: 'called-off', code: 'yield-timeout' })
  const forced = robot.trace.mark()
  expect(await robot.send(bytes, { force: true })).toMatchObject({ outcome: 'committed' })
  const after = await robot.running(before.pid)
  expect(after).toMatchObject({ version: '2.0.0' })
  await eventually(gone(before.pid))

  const dial = accepted(robot.trace.since(forced), 'dial')
  const last = dial.findLast(({ fence }) => fence < after.fence)
  const first = dial.find(({ fence }) => fence === after.fence)
  const [from = 0, to = 0] = [last, first].map((entry) => entry && countOf(entry))
  expect(to).toBeLessThanOrEqual(from + 1)
  // a checkpoint is asked for every 100 ms, and the old one ran on for all of yieldMs
  expect(to).toBeGreaterThan(from - 2000 * SCALE)
  expect(to).toBeGreaterThan(100)
  robot.check()
})

test('it changes its state after it was hashed: bad-state, nothing of it is used, it runs on', async () => {
  await robot.commit('liar')
  const before = await robot.running()
  await robot.trace.more('dial')
  const mark = robot.trace.mark()
  expect(await robot.push('counter')).toMatchObject({ outcome: 'rolled-back', code: 'bad-state' })
  await robot.trace.more('dial')
  expect(await robot.running()).toMatchObject({ pid: before.pid })
  expectNoTickLost(robot.trace.since(mark))
  expect(Math.max(...counts(robot.trace.since(mark)))).toBeLessThan(424_242)
  robot.check()
})

test.each(['turns-bad', 'turns-lossy'])(
  '%s: a state that JSON cannot carry is refused while the old one runs on',
  async (name) => {
    await robot.commit(name)
    const before = await robot.running()
    await robot.trace.more('dial')
    const mark = robot.trace.mark()
    const pushed = await robot.push('counter')
    expect(pushed).toMatchObject({ outcome: 'rolled-back', code: 'bad-state' })
    await robot.trace.more('dial')
    expect(await robot.running()).toMatchObject({ pid: before.pid, restarts: before.restarts })
    expectNoTickLost(robot.trace.since(mark))
    robot.check()
  },
)

test('it floods its output: it keeps running, its log is bounded, the drops are counted, and a swap works', async () => {
  await robot.commit('floods-output')
  const before = await robot.running()
  const { log } = await eventually(async () => {
    const slot = await robot.slot()
    return slot.log.dropped > 2000 && slot
  })
  expect(log.lines).toBeLessThanOrEqual(2000)
  const lines = await robot.logs('main', 10_000)
  expect(lines.length).toBeLessThanOrEqual(2000)
  expect(Math.max(...lines.map(({ text }) => text.length))).toBe(4096)
  expect(new Set(lines.map(({ stream }) => stream))).toEqual(new Set(['runtime', 'log', 'stdout', 'stderr']))
  const mark = robot.trace.mark()
  await robot.trace.more('dial')
  expect((await robot.running()).pid).toBe(before.pid)
  await robot.commit('counter')
  expectNoTickLost(robot.trace.since(mark))
  robot.check()
})

test('it is deaf to stop: it is ended, and its outputs are at their safe levels', async () => {
  await robot.commit('ignores-stop')
  const before = await robot.running()
  const mark = robot.trace.mark()
  expect(await ended(robot.client.stop('main'))).toMatchObject({ outcome: 'stopped' })
  expect(gone(before.pid)()).toBe(true)
  expect(await robot.slot()).toMatchObject({ state: 'idle' })
  const last = await eventually(() => {
    const entry = accepted(robot.trace.since(mark), 'led').at(-1)
    return entry?.value === 0 && entry
  })
  expect(last).toMatchObject({ changed: true })
  expect(last.fence).toBeGreaterThan(before.fence)
  expect(robot.receipt()).toMatchObject({ outcome: 'stopped' })
  robot.check()
})

test('it writes from timers of its own after it lost the lease: nothing of it is accepted, and it comes back whole', async () => {
  await robot.commit('late-writer')
  const before = await robot.running()
  await robot.trace.more('led')
  const mark = robot.trace.mark()
  // undone: it is parked in between, with its timers running until it is frozen
  expect(await robot.push('dies-in-trial')).toMatchObject({ outcome: 'rolled-back', code: 'died-in-trial' })
  await robot.trace.more('led')
  expect(await robot.running()).toMatchObject({ pid: before.pid, restarts: before.restarts })
  await robot.commit('counter')
  await robot.trace.more('led')
  const { fence } = await robot.running(before.pid)
  const entries = robot.trace.since(mark)
  const taken = entries.findIndex((entry) => entry.name === 'led' && entry.fence === fence)
  expect(accepted(entries.slice(taken), 'led').filter((entry) => entry.fence !== fence)).toEqual([])
  expectNoTickLost(entries)
  robot.check()
})

test('it goes past the SDK with a record of its own: none is accepted after the takeover, nor when it is back', async () => {
  await robot.commit('rogue-writer')
  const before = await robot.running()
  await robot.trace.more('led')
  const mark = robot.trace.mark()
  expect(await robot.push('dies-in-trial')).toMatchObject({ outcome: 'rolled-back', code: 'died-in-trial' })
  // back under a new number, while its thread still writes under the old one
  await robot.trace.more('dial')
  expect(await robot.running()).toMatchObject({ pid: before.pid })
  const stale = await eventually(() => {
    const seen = robot.trace.since(mark).filter(({ name, accepted: ok }) => name === 'led' && !ok)
    return seen.length > 20 && seen
  })
  expect(new Set(stale.map(({ fence }) => fence))).toEqual(new Set([before.fence]))
  await robot.commit('counter')
  await robot.trace.more('led')
  expectNoTickLost(robot.trace.since(mark))
  robot.check()
})
