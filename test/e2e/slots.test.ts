/** Several slots of one robot: each has its own program, rate, pushes, log, parameters and rollbacks. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from './eventually.ts'
import { TestRobot } from './robot.ts'
import { accepted, expectNoTickLost } from './trace.ts'

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start()
})
afterAll(async () => robot?.close())

/** The program of slot main: the counter without `tail`, which the arm's program has. */
const MAIN = { program: 'walk' }
const ARM = { program: 'reach', to: 'arm' }

test('two slots are pushed at the same time: both commit, and each goes on at its own rate', {
  tags: ['slow'],
}, async () => {
  const first = await Promise.all([robot.push('counter', MAIN), robot.push('arm-writer', ARM)])
  expect(first.map(({ outcome, message }) => [outcome, message])).toEqual([
    ['committed', 'walk 1.0.0 runs'],
    ['committed', 'reach 1.0.0 runs'],
  ])
  const mark = robot.trace.mark()
  const second = await Promise.all([
    robot.push('counter', { ...MAIN, version: '2.0.0' }),
    robot.push('arm-writer', { ...ARM, version: '2.0.0' }),
  ])
  for (const { outcome, receipt, message } of second) {
    expect(outcome, message).toBe('committed')
    expect(receipt).toMatchObject({ edges: 0 })
    expect(receipt?.gapMs).toBeGreaterThan(0)
  }
  expect(second.map(({ receipt }) => receipt?.slot)).toEqual(['main', 'arm'])
  const arm = await robot.running(-1, 'arm')
  const main = await robot.running(-1, 'main')
  expect([main.version, arm.version]).toEqual(['2.0.0', '2.0.0'])
  expect(main.handles.map(({ name }) => name).sort()).toEqual(['dial', 'enable', 'led'])
  expect(arm.handles.map(({ name }) => name)).toEqual(['tail'])
  // 1 kHz and 200 Hz: a busy machine takes ticks from both, but does not make the rates equal
  const entries = await eventually(async () => {
    const from = robot.trace.mark()
    await robot.trace.more('tail', 60)
    const seen = robot.trace.since(from)
    const ratio = accepted(seen, 'dial').length / accepted(seen, 'tail').length
    return ratio > 2.5 && ratio < 7.5 && seen
  })
  expectNoTickLost(robot.trace.since(mark))
  // each commit prunes the store, but not the release that the other slot is about to run
  expect((await robot.client.releases('main')).length).toBe(2)
  expect((await robot.client.releases('arm')).length).toBe(2)
  // each slot writes with its own fencing numbers
  expect(accepted(entries, 'tail').every(({ fence }) => fence === arm.fence)).toBe(true)
  expect(accepted(entries, 'dial').every(({ fence }) => fence === main.fence)).toBe(true)
  robot.check(mark)
})

test('HANDOVER 7.9: a slot rolls back only to releases that it ran itself', {
  tags: ['slow'],
}, async () => {
  const [main, arm] = [await robot.slot(), await robot.slot('arm')]
  const order = await robot.order('main', { target: arm.digest ?? '', program: arm.program ?? '' })
  expect(await robot.events(robot.client.carryOut(order))).toMatchObject({
    outcome: 'refused',
    code: 'not-found',
    message: expect.stringMatching(/^slot main has no release /),
  })
  expect(await robot.slot()).toMatchObject({ pid: main.pid, digest: main.digest })
})

test('HANDLES 3.11: a program that needs a handle of another slot is refused with the handle, both slots and a command', {
  tags: ['slow'],
}, async () => {
  const before = await robot.running(-1, 'arm')
  const main = await robot.running(-1, 'main')
  const third = await robot.push('arm-writer', { program: 'third', to: 'third' })
  expect(third).toMatchObject({
    outcome: 'refused',
    code: 'handle-leased',
    message: "slot third needs 'tail', which slot arm holds",
  })
  const client = robot.client.push('third', (await robot.bundle('arm-writer', { program: 'third' })).bytes)
  const refusal = await (async () => {
    for await (const event of client) if (event.event === 'result') return event
    return null
  })()
  expect(refusal).toMatchObject({ code: 'handle-leased', hint: 'stop it first: medulla stop --slot arm' })
  expect(await robot.running(-1, 'arm')).toMatchObject({ pid: before.pid, fence: before.fence })

  expect(await robot.events(robot.client.stop('arm'))).toMatchObject({ outcome: 'stopped' })
  expect(await robot.push('arm-writer', { program: 'third', to: 'third' })).toMatchObject({ outcome: 'committed' })
  // the other way round: the stopped slot cannot start while the handle is held
  await robot.events(robot.client.start('arm'))
  const kept = await eventually(async () => {
    const slot = await robot.slot('arm')
    return slot.state === 'waiting' && slot
  })
  expect(kept.waits).toContain('slot third holds')
  expect(kept.pid).toBeUndefined()
  await robot.events(robot.client.stop('arm'))
  await robot.events(robot.client.stop('third'))
  await robot.events(robot.client.start('arm'))
  await robot.running(-1, 'arm')
  expect(await robot.running(-1, 'main')).toMatchObject({ pid: main.pid, restarts: main.restarts })
})

test('parameters, logs and rollbacks belong to one slot', { tags: ['slow'] }, async () => {
  await robot.client.setParams('arm', { set: { gain: 3 } })
  expect((await robot.client.params('arm')).params).toMatchObject([{ name: 'gain', value: 3 }])
  expect((await robot.client.params('main')).params).toEqual([])
  expect((await robot.logs('main')).some(({ text }) => text.includes('gain'))).toBe(false)
  expect((await robot.logs('arm')).some(({ text }) => text.includes('gain 1 -> 3'))).toBe(true)

  const main = await robot.running(-1, 'main')
  const releases = await robot.client.releases('arm')
  expect(releases.map(({ version, current }) => [version, current])).toEqual([
    ['2.0.0', true],
    ['1.0.0', false],
  ])
  expect(await robot.rollback('arm')).toMatchObject({ outcome: 'committed' })
  expect(await robot.running(-1, 'arm')).toMatchObject({ version: '1.0.0', digest: releases[1]?.digest })
  expect(await robot.running(-1, 'main')).toMatchObject({ pid: main.pid, version: '2.0.0' })
  // the parameters stay over the rollback, too
  expect((await robot.client.params('arm')).params).toMatchObject([{ name: 'gain', value: 3 }])
  robot.check()
})
