/** The board's real-time priority: programs that drive the hardware have it, candidates do not. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canConfine } from '../../runtime/body/sandbox/confinement.ts'
import { loadersOf } from './asking.ts'
import { eventually } from './eventually.ts'
import { LOADER } from './programs.ts'
import { TestRobot } from './robot.ts'

const isAllowed = spawnSync('chrt', ['-f', '1', 'true']).status === 0
const NORMAL = 'policy 0, priority 0'
const REALTIME = 'policy 1, priority 10'

/** Scheduling policy and priority of each thread, by proc_pid_stat(5). */
function scheduling(pid: number): string[] {
  return readdirSync(`/proc/${pid}/task`).map((thread) => {
    const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
    return `policy ${stat[38]}, priority ${stat[37]}`
  })
}
const all = (pid: number) => [...new Set(scheduling(pid))]

const boxes = (['none', 'namespaces', 'bwrap'] as const).filter((box) => box === 'none' || canConfine(box, LOADER).ok)

describe.skipIf(!isAllowed).each(boxes)('in the sandbox %s (needs root)', (sandbox) => {
  let robot: TestRobot
  beforeAll(async () => {
    robot = await TestRobot.start({}, {}, { sandbox, more: { realtime: 10 } })
  })
  afterAll(async () => robot?.close())

  test("HANDOVER 4.10: a program has the board's priority from its start on, a candidate from its arming on", async () => {
    await robot.commit('steady')
    const first = (await robot.slot()).pid ?? -1
    expect(all(first)).toEqual([REALTIME])
    const pushed = robot.push('slow-import', { version: '3.0.0' })
    const candidate = await eventually(async () => {
      const { state, pid } = await robot.slot()
      return state === 'preparing' && pid === first && loadersOf(robot).find((other) => other !== first)
    })
    expect(all(candidate)).toEqual([NORMAL])
    expect(all(first)).toEqual([REALTIME])
    expect((await pushed).outcome).toBe('committed')
    expect(all((await robot.slot()).pid ?? -1)).toEqual([REALTIME])
  })
})
