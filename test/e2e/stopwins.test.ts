/** An answered stop holds, whatever began before it (HANDOVER 2.9). */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { eventually } from './eventually.ts'
import { ended, TestRobot } from './robot.ts'

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start()
  await robot.commit('counter')
})
afterAll(async () => robot?.close())

test('HANDOVER 2.9: a stop while a push is being verified calls the push off, and nothing runs', async () => {
  for (let i = 0; i < 8; i++) {
    const before = await robot.running()
    let isOver = false
    const pushed = robot.push('counter', { version: `2.0.${i}` }).finally(() => {
      isOver = true
    })
    // on a busy machine the push may be over before this process looks
    await eventually(async () => isOver || (await robot.slot()).state !== 'running' || (await reserved()))
    const stopped = await robot.events(robot.client.stop('main'))
    const { outcome } = await pushed
    expect(stopped).toMatchObject({ outcome: 'stopped' })
    // the push may have been committed before the stop
    if (outcome !== 'committed') expect(['called-off', 'refused', 'rolled-back']).toContain(outcome)
    await eventually(async () => (await robot.slot()).state === 'idle')
    expect(robot.programPid).toBeUndefined()
    expect(before.pid).toBeGreaterThan(0)
    await robot.events(robot.client.start('main'))
  }
})

/** Whether a push holds the slot: an order is then refused with in-progress. */
async function reserved(): Promise<boolean> {
  const { code } = await ended(robot.client.carryOut(await robot.order()))
  return code === 'in-progress'
}

test('HANDOVER 2.9: a stop right after a start stops the slot, also on disk', async () => {
  await robot.running()
  for (let i = 0; i < 10; i++) {
    await robot.events(robot.client.stop('main'))
    const order = await robot.client.sign({ order: 'start', slot: 'main' })
    const both = [ended(robot.client.carryOut(order)), robot.events(robot.client.stop('main'))]
    await Promise.all(both)
    const { state } = await robot.slot()
    // if the slot is not idle, the start came after the stop
    if (state !== 'idle') expect((await both[0])?.outcome).toBe('started')
    await robot.events(robot.client.stop('main'))
    expect((await robot.slot()).state).toBe('idle')
    expect(robot.programPid).toBeUndefined()
  }
  await robot.end('SIGKILL')
  await robot.begin()
  expect((await robot.slot()).state).toBe('idle')
  await robot.events(robot.client.start('main'))
  await robot.running()
})

test('HANDOVER 2.9: orders from before a stop are stale: an old release order cannot end a later emergency stop', async () => {
  await robot.events(robot.client.estop())
  const [old, start] = await Promise.all([
    robot.client.sign({ order: 'release' }),
    robot.client.sign({ order: 'start', slot: 'main' }),
  ])
  await robot.events(robot.client.release())
  await robot.events(robot.client.estop())
  expect(await robot.events(robot.client.carryOut(old))).toMatchObject({ outcome: 'refused', code: 'stale-order' })
  expect((await robot.client.status()).estop).not.toBeNull()
  expect(await robot.events(robot.client.release())).toMatchObject({ outcome: 'released' })
  expect(await robot.events(robot.client.carryOut(start))).toMatchObject({ outcome: 'refused', code: 'stale-order' })
  expect(await robot.events(robot.client.start('main'))).toMatchObject({ outcome: 'started' })
})
