/** Parameters from end to end: laptop, endpoint, body, program, disk. */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ParamChange } from '../../deploy/shared/api.ts'
import { eventually } from './eventually.ts'
import { TestRobot } from './robot.ts'
import { accepted, expectNoTickLost } from './trace.ts'

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start({}, { eve: 'observer' })
  await robot.commit('tunable', { program: 'tunable' })
})
afterAll(async () => robot?.close())

const values = async (): Promise<Record<string, unknown>> => {
  const { params } = await robot.client.params('main')
  return Object.fromEntries(params.map(({ name, value }) => [name, value]))
}
/** The slot's record on disk: set parameters by program name (HANDOVER 11.8). */
const record = () => JSON.parse(readFileSync(`${robot.home}/slots/main/slot.json`, 'utf8'))
const set = (change: Extract<ParamChange, { set: unknown }>['set']) => robot.client.setParams('main', { set: change })
const logged = (text: string) => eventually(async () => (await robot.logs()).find((line) => line.text.includes(text)))

test('HANDOVER 11.2, 11.7: a change takes effect at once and as a whole, the log names its author, and observers can only read', async () => {
  expect(await values()).toEqual({ step: 1, mode: 'slow', armed: false })
  const mark = robot.trace.mark()
  expect((await set({ step: 4, mode: 'fast' })).params[0]).toMatchObject({
    name: 'step',
    value: 4,
    default: 1,
    set: true,
  })
  await logged('now 4 fast false')
  expect(await logged('params: ')).toMatchObject({
    stream: 'runtime',
    text: 'params: step 1 -> 4, mode slow -> fast, by ann',
  })
  for (const [change, message] of [
    [{ step: 2, mode: 'none' }, 'mode: expected slow or fast, got "none"'],
    [{ step: 10 }, 'step: expected 1 to 9 in steps of 1, got 10'],
    [{ step: '2' }, 'step: expected 1 to 9 in steps of 1, got "2"'],
    [{ speed: 2 }, 'the program has no parameter speed; it has: step, mode, armed'],
  ] as [Record<string, number | string>, string][]) {
    await expect(set(change)).rejects.toMatchObject({ code: 'bad-param', message })
  }
  const eve = await robot.connect(robot.others.eve)
  expect((await eve.params('main')).params).toHaveLength(3)
  await expect(eve.setParams('main', { reset: 'all' })).rejects.toMatchObject({ code: 'role' })
  eve.close()
  await expect(robot.client.params('ghost')).rejects.toMatchObject({ code: 'not-found' })
  expect(await values()).toEqual({ step: 4, mode: 'fast', armed: false })
  await robot.trace.more('dial')
  expectNoTickLost(robot.trace.since(mark))
})

test('HANDOVER 11.4: set values stay over a swap, a crash and a restart of the runtime', {
  tags: ['slow'],
}, async () => {
  await set({ armed: true })
  await eventually(() => accepted(robot.trace.read(), 'tail').at(-1)?.value === 1)
  await robot.commit('tunable', { program: 'tunable', version: '1.1.0' })
  await logged('runs with {"step":4,"mode":"fast","armed":true}')

  const before = await robot.running()
  process.kill(before.pid, 'SIGKILL')
  await robot.running(before.pid)
  expect(await values()).toEqual({ step: 4, mode: 'fast', armed: true })

  await robot.end('SIGKILL')
  await robot.begin()
  await robot.running()
  expect(await values()).toEqual({ step: 4, mode: 'fast', armed: true })
  await logged('runs with {"step":4,"mode":"fast","armed":true}')
})

test('HANDOVER 11.4, 11.5: a value that the new program does not allow becomes the default, reported at the commit; an undone swap restores it', {
  tags: ['slow'],
}, async () => {
  const undone = await robot.push('dies-in-trial', { program: 'tunable', version: '1.9.0' })
  expect(undone.outcome).toBe('rolled-back')
  expect(await values()).toEqual({ step: 4, mode: 'fast', armed: true })

  const pushed = await robot.push('tunable-v2', { program: 'tunable', version: '2.0.0' })
  expect(pushed).toMatchObject({ outcome: 'committed' })
  expect(pushed.message).toBe(
    'tunable 2.0.0 runs; step=4 was not kept: it is 2, allowed is 1 to 3; armed=true was not kept: it is 0, allowed is a number',
  )
  expect(await values()).toEqual({ step: 2, mode: 'fast', armed: 0 })
  await logged('step=4 was not kept')
  // On disk, too, values that are no longer allowed are removed, and allowed ones stay (HANDOVER 11.4).
  await eventually(() => record().paramSets.tunable?.step === undefined)
  expect(record().paramSets).toEqual({ tunable: { mode: 'fast' } })
  await robot.client.setParams('main', { reset: 'all' })
  expect(await values()).toEqual({ step: 2, mode: 'fast', armed: 0 })
  expect(record().paramSets).toEqual({ tunable: {} })
})

test('values set while a slot is stopped apply at its next start', { tags: ['slow'] }, async () => {
  await robot.events(robot.client.stop('main'))
  await set({ step: 3 })
  expect(await values()).toEqual({ step: 3, mode: 'fast', armed: 0 })
  await robot.events(robot.client.start('main'))
  await robot.running()
  await logged('runs with {"step":3,"mode":"fast","armed":0}')
})

test('HANDOVER 11.3: a program that writes a parameter is ended', async () => {
  const pushed = await robot.push('writes-params', { program: 'greedy' })
  expect(pushed).toMatchObject({ outcome: 'rolled-back', code: 'died-at-start' })
  expect(pushed.message).toContain('params.kp cannot be written by the program')
})

test('HANDOVER 11.6: a flood of parameter changes delays no tick, and leaves little on disk and in the log', {
  tags: ['slow'],
}, async () => {
  await robot.commit('tunable', { program: 'tunable', version: '3.0.0' })
  await robot.trace.more('dial')
  const lines = (await robot.logs()).length
  const memory = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${robot.pid}/status`, 'utf8'))?.[1])
  const mark = robot.trace.mark()
  const before = memory()
  const began = performance.now()
  const until = began + 2000
  let answered = 0
  // all sessions that a client may have, each sending one change after the other
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      while (performance.now() < until || answered <= 8) await set({ step: 1 + (answered++ % 9) })
    }),
  )
  await robot.trace.more('dial')
  expectNoTickLost(robot.trace.since(mark))
  expect(answered).toBeGreaterThan(8)
  expect(memory() - before).toBeLessThan(40_000)
  // the runtime logs one line for each write to disk, at most one in 100 ms
  const said = (await robot.logs()).slice(lines).filter(({ stream }) => stream === 'runtime')
  expect(said.length).toBeLessThanOrEqual(2 + (performance.now() - began) / 100)
})
