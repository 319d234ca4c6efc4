import { readFileSync } from 'node:fs'
import { edited, type Simulation, simulate } from 'medulla/test'
import { expect, test } from 'vitest'

const PROGRAM = new URL('program.ts', import.meta.url)
const BOARD = new URL('board.json', import.meta.url)
const board = JSON.parse(readFileSync(BOARD, 'utf8')) as {
  handles: Record<'base' | 'shoulder' | 'elbow' | 'gripper', { slew: number }>
}
const JOINTS = ['base', 'shoulder', 'elbow', 'gripper'] as const

async function press(sim: Simulation): Promise<void> {
  sim.pull('button', 0)
  await sim.run('50ms')
  sim.release('button')
  await sim.run('50ms')
}

/** Expects that no joint has turned faster than the board allows, averaged over 100 ms. */
function expectSlow(sim: Simulation): void {
  for (const joint of JOINTS) {
    const changes = sim.changes(joint)
    let from = 0
    for (const { ms, value } of changes) {
      while ((changes[from + 1]?.ms ?? ms) <= ms - 100) from++
      const before = changes[from]?.value ?? value
      expect(Math.abs(value - before), `${joint} at ${ms} ms`).toBeLessThanOrEqual(board.handles[joint].slew * 0.121)
    }
  }
}

const said = (sim: Simulation) => sim.log.filter(({ stream }) => stream === 'log').map(({ text }) => text)

test('a press carries a thing from one side to the other, no faster than the board allows', async () => {
  const sim = await simulate(PROGRAM)
  await sim.run('1s')
  for (const joint of JOINTS) expect(sim.changes(joint)).toHaveLength(1)

  await press(sim)
  await press(sim)
  await sim.until('has carried 1', '30s')
  await sim.run('2s')
  expect(said(sim)).toEqual([
    ...['turns to the thing', 'is busy', 'reaches down', 'grips', 'lifts', 'turns', 'puts it down', 'lets go'],
    ...['draws back', 'has carried 1', 'rests'],
  ])
  expect(JOINTS.map((joint) => sim.value(joint))).toEqual([90, 90, 90, 80])
  expect(Math.max(...sim.changes('base').map(({ value }) => value))).toBe(150)
  expectSlow(sim)
  await sim.stop()
})

test('a new version pushed during a motion goes on from where the arm is', async () => {
  const sim = await simulate(PROGRAM)
  await sim.run('100ms')
  await press(sim)
  await sim.until(() => sim.value('base') < 60)
  const swap = await sim.swap(edited(PROGRAM, 'base: 150', 'base: 120'))
  expect(said(sim).at(-1)).toBe('goes on: turns to the thing')
  await sim.until('has carried 1', '30s')
  expect(swap.outcome).toBe('committed')
  expect(Math.max(...sim.changes('base').map(({ value }) => value))).toBe(120)
  expectSlow(sim)
  await sim.stop()
})

test('a push waits while the gripper holds something', async () => {
  const sim = await simulate(PROGRAM)
  await press(sim)
  await sim.until('lifts')
  const asked = sim.ms
  await sim.swap(edited(PROGRAM, 'base: 30', 'base: 40'))
  // the swap waited until the thing was put down
  expect(said(sim).slice(-2)).toEqual(['lets go', 'goes on: lets go'])
  expect(sim.ms - asked).toBeGreaterThan(2000)
  await sim.until('has carried 1', '30s')
  expectSlow(sim)
  await sim.stop()
})

test('a push is called off after timing.yieldMs, and the arm carries on', async () => {
  const sim = await simulate(PROGRAM, { board: { ...board, timing: { yieldMs: 200 } }, crashes: 'log' })
  await press(sim)
  await sim.until('lifts')
  const swap = sim.swap(edited(PROGRAM, 'base: 30', 'base: 40'))
  await expect(swap).rejects.toMatchObject({ code: 'yield-timeout' })
  await expect(swap).rejects.toThrow('the gripper holds something')
  await sim.until('has carried 1', '30s')
  await sim.stop()
})

test('after a crash the gripper still holds the thing, and the arm finishes', async () => {
  const sim = await simulate(PROGRAM, { crashes: 'log' })
  await press(sim)
  await sim.until('lifts')
  await sim.run('6s')
  const [crashed, before] = [sim.ms, JOINTS.map((joint) => sim.value(joint))]
  await sim.crash()
  expect(JOINTS.map((joint) => sim.value(joint))).toEqual(before)
  await sim.until('lets go')
  expect(sim.changes('gripper').filter(({ ms }) => ms > crashed)).toEqual([])
  await sim.until('has carried 1')
  expect(sim.value('gripper')).toBe(80)
  expectSlow(sim)
  await sim.stop()
})
