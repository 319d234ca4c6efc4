/** Wrong clocks of laptop or robot, in either direction. A push from source must work with all of them. */
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { Ended, Laptop } from '../deploy/laptop/cli/medulla.ts'
import { laptopOf } from './laptop.ts'
import { source } from './programs.ts'
import { TestRobot } from './robot.ts'

const CLOCK = new URL('./children/clock.mjs', import.meta.url).href
const DAY_MS = 24 * 3600 * 1000
const YEARS_MS = 10 * 365 * DAY_MS

let robot: TestRobot
let laptop: Laptop
/** Each test has its own program, because a program's floor stays. */
let program: string
let path: string
let tests = 0

beforeAll(async () => {
  robot = await TestRobot.start({}, {}, { preload: CLOCK })
  laptop = await laptopOf(robot)
})
beforeEach(() => {
  program = `steady-${++tests}`
  // a program is named by its folder
  const folder = join(laptop.dir, program)
  mkdirSync(folder)
  path = join(folder, 'program.ts')
  copyFileSync(source('steady'), path)
})
afterAll(async () => {
  await laptop?.close()
  await robot?.close()
})

/** The CLI on a laptop with a shifted clock. */
function medulla(offMs: number, ...args: string[]): Promise<Ended> {
  return laptop.start(args, { NODE_OPTIONS: `--import=${CLOCK}`, MEDULLA_TEST_CLOCK_MS: String(offMs) }).ended
}

async function push(offMs: number): Promise<string> {
  const { status, stdout, stderr } = await medulla(offMs, 'push', path)
  expect(status, stderr).toBe(0)
  expect(stdout).toContain(`committed: ${program} `)
  return stderr
}

/** The program's committed counter on the robot. */
const floor = async (): Promise<number> => (await robot.client.counter(program)).least - 1

/** Restarts the robot with a shifted clock. */
async function restart(offMs: number): Promise<void> {
  writeFileSync(join(robot.folder, 'clock-ms'), String(offMs))
  await robot.end()
  await robot.begin()
}

test("BUNDLE 6.6: a laptop with a clock ten years behind can push over others' releases, and they over its", async () => {
  expect(await push(0)).not.toContain('clock')
  const first = await floor()
  expect(await push(-YEARS_MS)).toContain("the robot's clock is 3650 days ahead of this computer's")
  expect(await floor()).toBe(first + 1)
  await push(0)
  expect(await floor()).toBeGreaterThan(first + 1)
})

test('BUNDLE 6.6: a laptop with a clock ten years ahead can push, and does not block later pushes of others', async () => {
  const told = await push(YEARS_MS)
  expect(told).toContain("the robot's clock is 3650 days behind this computer's")
  expect(told).toContain('sudo timedatectl set-ntp true')
  expect(Math.abs((await floor()) - Date.now())).toBeLessThan(DAY_MS)
  await push(0)
})

test('BUNDLE 6.8: a floor ten years ahead rises by one with each push from source', async () => {
  await restart(YEARS_MS)
  await push(YEARS_MS)
  await restart(0)
  const far = await floor()
  expect(far).toBeGreaterThan(Date.now() + YEARS_MS - DAY_MS)
  await push(0)
  await push(-YEARS_MS)
  expect(await floor()).toBe(far + 2)
  // an owner cannot raise it further either
  expect(await robot.push('steady', { program, counter: far + 100_000 })).toMatchObject({ code: 'ahead-of-clock' })
})

test('a robot with a clock ten years behind takes a push, and further pushes after its clock was corrected', async () => {
  await restart(-YEARS_MS)
  expect(await push(0)).toContain("the robot's clock is 3650 days behind this computer's")
  await restart(0)
  await push(0)
  expect(Math.abs((await floor()) - Date.now())).toBeLessThan(DAY_MS)
})

test('a bundle file made with a wrong clock is refused with both clocks, and the command in the hint works', async () => {
  const file = join(laptop.dir, 'steady.medulla')
  const build = (offMs: number, ...more: string[]) => medulla(offMs, 'build', path, '-o', file, ...more)
  // ahead
  expect(await build(YEARS_MS)).toMatchObject({ status: 0 })
  const ahead = await laptop.run('push', file)
  expect(ahead.status).toBe(3)
  expect(ahead.stderr).toMatch(/steady.* has counter \d+ \(20.*\), more than 24 h ahead of this robot's clock \(20/)
  expect(ahead.stderr).toMatch(
    /hint: set the clock of the computer that built it with: sudo timedatectl set-ntp true; or/,
  )
  expect(await build(0)).toMatchObject({ status: 0 })
  expect((await laptop.run('push', file)).stdout).toContain('committed')
  // behind
  const committed = await floor()
  expect(await build(-YEARS_MS)).toMatchObject({ status: 0 })
  const behind = await laptop.run('push', file)
  expect(behind.status).toBe(3)
  expect(behind.stderr).toContain(`this robot has committed ${committed} (`)
  expect(behind.stderr).toContain(`medulla build FOLDER --above ${committed}`)
  expect(await build(-YEARS_MS, '--above', String(committed))).toMatchObject({ status: 0 })
  expect((await laptop.run('push', file)).stdout).toContain('committed')
  expect(await floor()).toBe(committed + 1)
  expect(await laptop.run('build', path, '--above', 'soon')).toMatchObject({ status: 2 })
})

test('with a robot years behind and a laptop years ahead, the floor follows the clock of the robot', {
  tags: ['slow'],
}, async () => {
  await restart(-YEARS_MS)
  await push(YEARS_MS)
  expect(await floor()).toBeLessThan(Date.now() - YEARS_MS + DAY_MS)
  await push(0)
  await restart(0)
  await push(0)
})

test('BUNDLE 10.14: an owner resets the floor, older releases are accepted again, and a receipt names the owner', async () => {
  await push(0)
  const high = await floor()
  const file = join(laptop.dir, `${program}.medulla`)
  const built = await medulla(-DAY_MS, 'build', path, '-o', file)
  expect(built.status, built.stderr).toBe(0)
  const older = await medulla(0, 'push', file)
  expect(older).toMatchObject({ status: 3, stderr: expect.stringContaining('this robot has committed') })
  const shown = await medulla(0, 'floor', program)
  expect(shown.stdout).toContain(`${high} (`)
  // this laptop's key is an operator's
  expect(await medulla(0, 'floor', program, '--reset')).toMatchObject({
    status: 3,
    stderr: expect.stringContaining('expected role owner'),
  })
  await robot.client.resetFloor(program)
  expect((await medulla(0, 'floor', program)).stdout).toContain('none: any release is new')
  const reason = `floor of ${program}: was ${high}, any counter is new again`
  expect(robot.receipt()).toMatchObject({ outcome: 'changed', reason, pusher: robot.owner.signer.fingerprint })
  expect((await medulla(0, 'push', file)).stdout).toContain(`committed: ${program} `)
  expect(await floor()).toBeLessThan(high)
})
