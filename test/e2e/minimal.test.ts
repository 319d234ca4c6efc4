/** A robot whose home says that it must start no program: on a card, when its data partition cannot be used. */
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
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
