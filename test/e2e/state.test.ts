/** Checkpoints on disk. */
import { readFileSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type Checkpoint, readCheckpoint, writeCheckpoint } from '../../runtime/store/checkpoint.ts'
import { flip } from '../fixtures/random.ts'
import { checkpointFile, checkpointOf } from './checkpoints.ts'
import { eventually } from './eventually.ts'
import { TestRobot } from './robot.ts'
import { counts } from './trace.ts'

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start()
})
afterAll(async () => robot?.close())

const file = () => checkpointFile(robot, 'counter')
const checkpoint = () => checkpointOf(robot, 'counter')

test('HANDOVER 9.1: after a power cut a program goes on from exactly the state in its checkpoint', async () => {
  await robot.commit('counter')
  await eventually(async () => ((await checkpoint())?.state.n ?? 0) > 200)
  await robot.end('SIGKILL')
  const kept = await checkpoint()
  expect(kept).toEqual({ program: 'counter', stateVersion: 1, encoding: 'json', state: { n: expect.any(Number) } })
  await robot.begin()
  await robot.trace.more('dial')
  expect(counts(robot.trace.read())[0]).toBe((kept?.state.n ?? 0) + 1)
})

test('HANDOVER 9.8: G11: the checkpoint is migrated up at a commit, and down at a rollback', async () => {
  await robot.commit('counter-v2', { program: 'counter', version: '2.0.0' })
  const up = await eventually(async () => {
    const kept = await checkpoint()
    return kept?.stateVersion === 2 && kept
  })
  expect(Object.keys(up.state)).toEqual(['count', 'since'])
  expect(up.state.count).toBeGreaterThan(200)
  expect(await robot.rollback()).toMatchObject({ outcome: 'committed' })
  // the commit writes it, not a later checkpoint
  const down = await checkpoint()
  expect(down?.stateVersion).toBe(1)
  expect(Object.keys(down?.state ?? {})).toEqual(['n'])
  expect(down?.state.n).toBeGreaterThanOrEqual(up.state.count ?? 0)
})

test('HANDOVER 9.7: with a checkpoint of a newer state version a program begins with a fresh state, and the log says why', async () => {
  const { pid } = await robot.running()
  await robot.end()
  const kept = await readCheckpoint(file())
  await writeCheckpoint(file(), { ...(kept as Checkpoint), stateVersion: 2 })
  await robot.begin()
  expect((await robot.running(pid)).restarts).toBe(0)
  await robot.trace.more('dial')
  expect(counts(robot.trace.read())[0]).toBe(1)
  const lines = (await robot.logs()).map(({ text }) => text)
  expect(lines).toContainEqual(
    expect.stringMatching(
      /^bad-state: .* version 2, newer than counter 1\.0\.0 knows; it begins with its initial state$/,
    ),
  )
})

test('HANDOVER 9.7: with a checkpoint altered on disk a program begins with a fresh state, and the log says why', async () => {
  await robot.end()
  writeFileSync(file(), flip(readFileSync(file()), 900))
  await robot.begin()
  await robot.trace.more('dial')
  expect(counts(robot.trace.read())[0]).toBe(1)
  const said = (await robot.logs()).filter(({ stream, level }) => stream === 'runtime' && level === 'error')
  expect(said.map(({ text }) => text)).toEqual([
    expect.stringMatching(/^bad-state: the checkpoint .* was changed on disk/),
  ])
})
