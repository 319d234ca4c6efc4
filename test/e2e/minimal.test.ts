/** A robot whose home says that it must start no program: on a card, when its data partition cannot be used. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from './eventually.ts'
import { TestRobot } from './robot.ts'

let robot: TestRobot
beforeAll(async () => {
  robot = await TestRobot.start()
})
afterAll(() => robot.close())

test('HANDOVER 17.9: with a file minimal in its home the robot starts nothing, and says why and what to do', async () => {
  await robot.commit('counter')
  await robot.end()
  const file = join(robot.home, 'minimal')
  const [why, hint] = ['the data partition of its card cannot be used', 'write the card again']
  writeFileSync(file, `${why}\n${hint}\n`)
  await robot.begin()
  const { runtime, slots } = await robot.client.status()
  expect(runtime?.minimal).toEqual({ why, hint })
  expect(slots.filter(({ state }) => state === 'running')).toEqual([])
  expect(await robot.push('counter', { version: '2.0.0' })).toMatchObject({
    code: 'minimal',
    message: `the robot is in minimal mode and starts no program: ${why}`,
  })

  await robot.end()
  rmSync(file)
  await robot.begin()
  expect(await robot.running()).toMatchObject({ program: 'counter', version: '1.0.0' })
})

test('HANDOVER 17.9: an empty file, a folder or a FIFO in its place says which one it is, and the robot can be reached', async () => {
  const path = join(robot.home, 'minimal')
  for (const put of [() => writeFileSync(path, ''), () => mkdirSync(path), () => execFileSync('mkfifo', [path])]) {
    await robot.end()
    put()
    await robot.begin()
    expect((await robot.client.status()).runtime?.minimal).toEqual({
      why: 'its home has a file minimal',
      hint: `remove ${path} on the robot, and restart the runtime`,
    })
    rmSync(path, { recursive: true })
  }
  await robot.end()
  await robot.begin()
})

test('HANDOVER 17.9, 18.1: a program that runs when its runtime is replaced goes on in minimal mode, and keeps its outputs', async () => {
  await robot.commit('counter')
  const { pid, fence } = await robot.running()
  const mark = robot.trace.mark()
  const path = join(robot.home, 'minimal')
  writeFileSync(path, 'why\nhint\n')
  process.kill(robot.pid, 'SIGUSR2')
  await eventually(async () => {
    await robot.reconnect()
    const { runtime } = await robot.client.status().catch(() => ({ runtime: undefined }))
    return runtime?.minimal !== undefined
  })
  await robot.trace.more('led')
  expect(await robot.running()).toMatchObject({ pid })
  // nobody but the program has written
  expect(new Set(robot.trace.since(mark).map((entry) => entry.fence))).toEqual(new Set([fence]))
  await robot.end()
  rmSync(path)
})
