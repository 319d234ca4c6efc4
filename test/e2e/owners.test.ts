/** State, checkpoints and parameters belong to a program's name (HANDOVER 5.9, 11.8). */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { checkpointOf } from './checkpoints.ts'
import { eventually } from './eventually.ts'
import { laptopOf } from './laptop.ts'
import { ended, TestRobot } from './robot.ts'

let robot: TestRobot
beforeEach(async () => {
  robot = await TestRobot.start()
  return () => robot.close()
})

let count = 0
/** A program that logs the state it begins with. `state`: source of the initial state; `more`: of further keys of robot(). */
function program(name: string, state: string, { version = 1, more = '', body = '' } = {}) {
  const folder = join(robot.home, '..', `owners-${++count}`, name)
  mkdirSync(folder, { recursive: true })
  writeFileSync(
    join(folder, 'program.ts'),
    `import { robot } from 'medulla'
robot({
  needs: { led: 'output' },
  state: { version: ${version}, initial: (): Record<string, unknown> => (${state}) },
  ${more}
  run({ led, state, params, every, log }) {
    log(\`begins with \${JSON.stringify(state)}, led \${led.value}, \${JSON.stringify(params)}\`)
    ${body}
    every(5, () => led.write(1))
  },
})
`,
  )
  return { program: name, version: `1.0.${count}`, file: folder }
}

const blinky = (options: object = {}) =>
  program('blinky', '{ blinks: 0 }', {
    body: 'every(5, () => { state.blinks = Number(state.blinks) + 1 })',
    ...options,
  })
const counter = (options: object = {}) => program('counter', '{ laps: [] }', options)
const last = async () => (await robot.logs()).findLast(({ text }) => text.startsWith('begins with'))?.text ?? ''
const blinks = async () => Number(/"blinks":(\d+)/.exec(await last())?.[1])
/** Waits until the running program has blinked more than 10 times, so that its state differs from an initial one. */
const blinked = (name = 'blinky') => eventually(async () => ((await checkpointOf(robot, name))?.state.blinks ?? 0) > 10)

test('a program of another name begins with its own state and present outputs; the first one later gets its own state back', async () => {
  await robot.commit('blinky', blinky())
  await blinked()
  const pushed = await robot.push('counter', counter())
  expect(pushed.message).toMatch(
    /^counter 1\.0\.\d+ runs; counter begins with its own initial state; the state of blinky is kept for it$/,
  )
  expect(await last()).toBe('begins with {"laps":[]}, led 1, {}')
  const back = await ended(robot.client.carryOut(await robot.order('main', { program: 'blinky' })))
  expect(back.message).toMatch(/blinky goes on with its own state of \d{4}-.*; the state of counter is kept for it$/)
  expect(await blinks()).toBeGreaterThan(10)
})

test('a program of another name needs no migration from the state of the other one, whatever the versions', async () => {
  await robot.commit('blinky', blinky({ version: 3 }))
  await blinked()
  expect((await robot.push('counter', counter({ version: 1 }))).outcome).toBe('committed')
  expect((await robot.push('blinky', blinky({ version: 3 }))).outcome).toBe('committed')
  expect(await blinks()).toBeGreaterThan(10)
})

test('when a program of another name is undone, the old one goes on with its state unchanged', async () => {
  await robot.commit('blinky', blinky())
  await blinked()
  const body = "let n = 0\n    every(5, () => { if (++n === 10) throw new Error('lost') })"
  const undone = await robot.push('counter', counter({ body }))
  expect(undone).toMatchObject({ outcome: 'rolled-back' })
  // the old program never began with a fresh state
  expect((await robot.logs()).filter(({ text }) => text.startsWith('begins with {"blinks"'))).toHaveLength(1)
  const ill = 'health(() => false)'
  const unfit = counter({ body: ill })
  const { readFileSync } = await import('node:fs')
  const file = join(unfit.file, 'program.ts')
  writeFileSync(file, readFileSync(file, 'utf8').replace('every, log }', 'every, log, health }'))
  expect(await robot.push('counter', unfit)).toMatchObject({ outcome: 'rolled-back', code: 'unhealthy' })
  await robot.commit('blinky', blinky())
  expect(await blinks()).toBeGreaterThan(10)
})

test('after a crash a program starts from its own checkpoint, never from that of another program', async () => {
  await robot.commit('blinky', blinky())
  await robot.commit('counter', counter({ body: 'state.laps = [1, 2]' }))
  const { pid } = await robot.running()
  process.kill(pid, 'SIGKILL')
  await robot.running(pid)
  expect(await last()).toBe('begins with {"laps":[1,2]}, led 0, {}')
})

test('a renamed program takes over state and parameters with takesStateOf in package.json or with --state-of', async () => {
  const more = 'params: { speed: { value: 1, min: 0, max: 9 } },'
  await robot.commit('blinky', blinky({ more }))
  await blinked()
  await robot.client.setParams('main', { set: { speed: 5 } })
  const renamed = blinky({ more })
  writeFileSync(join(renamed.file, 'package.json'), '{"name":"flashy","medulla":{"takesStateOf":"blinky"}}')
  const pushed = await robot.push('flashy', { ...renamed, program: 'flashy' })
  expect(pushed.message).toContain('flashy goes on with the state of blinky')
  expect(await blinks()).toBeGreaterThan(10)
  expect(await last()).toContain('"speed":5')
  const laptop = await laptopOf(robot)
  onTestFinished(() => laptop.close())
  const again = blinky({ more })
  writeFileSync(join(again.file, 'package.json'), '{"name":"sparky"}')
  const { stdout } = await laptop.run('push', again.file, '--state-of', 'flashy')
  expect(stdout).toContain('sparky goes on with the state of flashy')
  const [before, other] = [await blinks(), counter({ more })]
  expect(before).toBeGreaterThan(10)
  // parameters set for sparky do not apply to other programs
  await robot.commit('counter', other)
  expect(await last()).toContain('"speed":1')
})
