/** The line at which a program hangs: in a tick, a handler or `run`, while it runs and as a candidate (HANDOVER 4.11). */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { canConfine } from '../../runtime/body/sandbox/confinement.ts'
import { eventually } from './eventually.ts'
import { ended, TestRobot } from './robot.ts'

let count = 0
/** An author's file, in which `body` is in `run` and begins at line 4. */
function author(robot: TestRobot, body: string, top = '') {
  const folder = join(robot.home, '..', `hang-${++count}`)
  mkdirSync(folder)
  const file = join(folder, 'program.ts')
  const lines = [
    "import { robot } from 'medulla'",
    top,
    "robot({ led: 'output' }, ({ led, every, info }) => {",
    body,
    '})',
  ]
  writeFileSync(file, `${lines.join('\n')}\n`)
  return { program: 'hangs', version: `1.0.${count}`, file }
}

/** What the log says of the place; on a busy machine the receipt may be written before it is known. */
const hangOf = (robot: TestRobot) =>
  eventually(async () =>
    (await robot.logs()).findLast(({ stream, text }) => stream === 'log' && text.startsWith('it hangs')),
  )

const LATE = `  let n = 0
  const seek = () => {
    led.write(1)
    while (n > 3000) {}
  }
  every(1, () => {
    n += 1
    seek()
  })`

const sandboxes = ['none', ...(['namespaces', 'bwrap'] as const).filter((one) => canConfine(one).ok)] as const

describe.each(sandboxes)('with --sandbox %s', (sandbox) => {
  let robot: TestRobot
  beforeAll(async () => {
    robot = await TestRobot.start({ readyMs: 5000 }, {}, { sandbox })
  })
  afterAll(() => robot?.close())
  afterEach(() => ended(robot.client.stop('main')))

  test('HANDOVER 4.11: a running program that hangs is ended with the line in receipt, status and log', async () => {
    await robot.commit('hangs', author(robot, LATE))
    expect((await hangOf(robot)).text).toMatch(/^it hangs\n {4}at seek \(program\.ts:7:\d+\)\n {4}at program\.ts:11:5$/)
    const { lastError } = await robot.slot()
    expect(lastError).toMatch(
      /^heartbeat-lost: no heartbeat for .*; the program said: "it hangs at program\.ts:7:\d+"$/,
    )
    const crash = robot.receipts().find(({ outcome }) => outcome === 'crashed')
    if (crash?.said !== undefined) expect(lastError).toContain(JSON.stringify(crash.said))
    expect((await robot.logs()).filter(({ text }) => text.includes('KEYBOARD_INTERRUPT'))).toEqual([])
  })

  test.each([
    ['run', '  while (info.program !== "describe") {}', '', /^it hangs at program\.ts:4:\d+$/],
    ['its top level', '', 'while (process.env.LANG !== undefined) {}', /^it hangs at program\.ts:2:\d+$/],
  ])('HANDOVER 4.11: a push of a program that hangs in %s is undone with the line', async (_, body, top, says) => {
    const { code, message } = await robot.push('hangs', author(robot, body, top))
    const { said } = robot.receipt()
    expect([code, said]).toEqual(['never-ready', expect.stringMatching(says)])
    expect(message).toContain(`the program said: ${JSON.stringify(said)}`)
  })

  test('HANDOVER 4.11: a listener of the program for SIGINT gets no signal, and hides no line', async () => {
    await robot.commit('hangs', author(robot, `\n${LATE}`, "process.on('SIGINT', () => process.exit(7))"))
    // one line below the one of the other tests
    await eventually(async () => (await robot.logs()).some(({ text }) => text.includes('at seek (program.ts:8:')))
  })
})
