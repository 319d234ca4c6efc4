import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from '../e2e/eventually.ts'
import { TestRobot } from '../e2e/robot.ts'
import { boardText, LINE, PATIENT } from './board.ts'
import { i2cCounts, inRig, levelOf, resetI2cCounts, stretchI2c } from './guest.ts'

/** Longer than the test, which ends the stretch itself. */
const STUCK_MS = 600_000

/** Whether a thread of the process is in state D (proc_pid_stat(5)). */
function waitsInKernel(pid: number): boolean {
  const tasks = readdirSync(`/proc/${pid}/task`)
  return tasks.some((task) => / D /.test(readFileSync(`/proc/${pid}/task/${task}/stat`, 'utf8')))
}

describe.runIf(inRig)('a program that can be neither frozen nor ended', () => {
  let robot: TestRobot
  beforeAll(async () => {
    const handles = {
      slow: { kind: 'i2c', bus: 2, address: '0x69' },
      toggle: { kind: 'output', line: LINE.toggle, safe: 0 },
    }
    robot = await TestRobot.start({}, {}, { board: boardText({ ...PATIENT, handles }) })
  })
  afterAll(async () => {
    stretchI2c(2, 0x69, 0)
    await robot?.close()
  })

  test('HANDLES 10.5: when the old program cannot be fenced, the new one is ended too, outputs are safe, the receipt says fence-failed', {
    timeout: 300_000,
  }, async () => {
    resetI2cCounts(2, 0x69)
    await robot.commit('stuck-in-kernel')
    // the chip still answers this process
    await eventually(() => i2cCounts(2, 0x69).reads === 1)
    stretchI2c(2, 0x69, STUCK_MS)
    await robot.commit('stuck-in-kernel', { version: '1.1.0' })
    const { pid } = await robot.running()
    await eventually(() => waitsInKernel(pid))
    const pushed = await robot.push('stuck-in-kernel', { version: '1.2.0' })
    expect(pushed).toMatchObject({ outcome: 'rolled-back', code: 'fence-failed' })
    expect(levelOf(LINE.toggle)).toBe(0)
    expect((await robot.slot()).state).toBe('idle')
    stretchI2c(2, 0x69, 0)
    await eventually(() => !existsSync(`/proc/${pid}`))
    expect(levelOf(LINE.toggle)).toBe(0)
    expect((await robot.events(robot.client.start('main'))).outcome).toBe('started')
    await robot.running()
    await eventually(() => levelOf(LINE.toggle) === 1)
  })
})
