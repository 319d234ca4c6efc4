/** Errors of programs: push, log, status and receipts name the line in the author's file, wherever the program throws. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, onTestFinished, test } from 'vitest'
import { eventually } from './eventually.ts'
import { laptopOf } from './laptop.ts'
import { TestRobot } from './robot.ts'

let robot: TestRobot
beforeAll(async () => {
  robot = await TestRobot.start()
  return () => robot.close()
})

let count = 0
/** An author's file, in which the body of `run` begins at line 4. */
function author(body: string, top = ''): { program: string; version: string; file: string } {
  const folder = join(robot.home, '..', `author-${++count}`)
  mkdirSync(join(folder, 'lib'), { recursive: true })
  const file = join(folder, 'program.ts')
  const lines = [
    "import { robot } from 'medulla'",
    top,
    "robot({ led: 'output' }, ({ led, every, log }) => {",
    body,
    '})',
  ]
  writeFileSync(file, `${lines.join('\n')}\n`)
  return { program: 'placed', version: `1.0.${count}`, file }
}

const undone = (body: string, top?: string) => robot.push('placed', author(body, top))

test.each([
  ['in run', "  throw new TypeError('no camera')", '', 'TypeError: no camera at program.ts:4:9'],
  ['in a tick', "  every(10, () => {\n    throw new Error('no camera')\n  })", '', 'no camera at program.ts:5:11'],
  ['at its top level', '', "if (process.env.LANG) throw new Error('no camera')", 'no camera at program.ts:2:29'],
  ['later', "  process.nextTick(() => {\n    throw new Error('no camera')\n  })", '', 'no camera at program.ts:5:11'],
  [
    'in a promise',
    "  void (async () => {\n    throw new Error('no camera')\n  })()",
    '',
    'no camera at program.ts:5:11',
  ],
  ['in what is no Error', "  throw { camera: 'none' }", '', "{ camera: 'none' }"],
  [
    'with a cause',
    "  throw new Error('no picture', { cause: new Error('EIO') })",
    '',
    'no picture (cause: EIO) at program.ts:4:9',
  ],
])('a push whose program throws %s is undone, and the message has the line', async (_name, body, top, says) => {
  const { outcome, message } = await undone(body, top)
  expect(outcome).toBe('rolled-back')
  expect(message).toContain(`the program said: ${JSON.stringify(says)}`)
  expect(robot.receipt().said).toBe(says)
})

test("a crash names the line in log, status and receipt, and its stack has only frames of the author's code", async () => {
  const body = [
    '  let n = 0',
    '  const measure = (last: { mm: number }[]) => {',
    '    led.write(last[7]!.mm > 5)',
    '  }',
    '  every(10, () => {',
    '    if (++n === 150) measure([])',
    '  })',
  ]
  await robot.commit('placed', author(body.join('\n')))
  const says = "TypeError: Cannot read properties of undefined (reading 'mm') at program.ts:6:24"
  const crash = await eventually(async () => robot.receipts().find(({ outcome }) => outcome === 'crashed'))
  expect(crash.said).toBe(says)
  expect((await robot.slot()).lastError).toContain(JSON.stringify(says))
  const line = (await robot.logs()).findLast(({ stream, level }) => stream === 'log' && level === 'error')
  expect(line?.text.split('\n')).toEqual([
    "TypeError: Cannot read properties of undefined (reading 'mm')",
    '    at measure (program.ts:6:24)',
    '    at program.ts:9:22',
  ])
  const laptop = await laptopOf(robot)
  onTestFinished(() => laptop.close())
  expect((await laptop.run('logs')).stdout).toContain('at measure (program.ts:6:24)')
  await eventually(async () => (await robot.push('placed', author('  led.write(1)'))).outcome === 'committed')
})

test('a long message is cut without losing the place', async () => {
  await undone("  throw new Error('x'.repeat(9000))")
  expect(robot.receipt().said).toMatch(/^x{200,}… at program\.ts:4:9$/)
})

test('a program that never returns in its first rehearsal is reported with the function in which it is stuck', async () => {
  // long enough to load a program on a busy machine
  const quick = await TestRobot.start({ readyMs: 10_000 })
  onTestFinished(() => quick.close())
  const undone = (body: string) => quick.push('placed', author(body))
  const inRun = await undone('  if (process.env.LANG) for (;;) {}')
  expect(inRun).toMatchObject({ code: 'never-ready', message: expect.stringContaining(': run has not returned') })
  const inTick = await undone('  every(10, () => {\n    for (;;) {}\n  })')
  expect(inTick.message).toContain(': the function given to every() has not returned')
})

test('log takes what console.log takes; a second value that is not a level is text', async () => {
  const calls = [
    "log('distance', 231)",
    "log('distance', 'wrn')",
    "log('too close', 'warn')",
    "log('%d of %d', 2, 3, { left: [1] })",
    "log(new Map([['a', 1]]))",
    'log()',
    "log(undefined, 'error')",
  ]
  const crashes = () => robot.receipts().filter(({ outcome }) => outcome === 'crashed').length
  const before = crashes()
  await robot.commit('placed', author(`  ${calls.join('\n  ')}\n  every(100, () => led.write(1))`))
  const lines = await robot.logs()
  const logged = lines.filter(({ stream }) => stream === 'log').slice(-calls.length)
  expect(logged.map(({ level, text }) => [level, text])).toEqual([
    ['info', 'distance 231'],
    ['info', 'distance wrn'],
    ['warn', 'too close'],
    ['info', '2 of 3 { left: [ 1 ] }'],
    ['info', "Map(1) { 'a' => 1 }"],
    ['info', ''],
    ['error', 'undefined'],
  ])
  expect(crashes()).toBe(before)
})

test('HANDOVER 3.5: errors that a program logs or prints have the places in its own files', async () => {
  const body = [
    "  const failed = () => new Error('EIO')",
    "  log('read', failed())",
    '  console.error(failed())',
    "  console.log('%s: %O', 'read', { failed: failed() }, '100%')",
    "  console.warn(new Error('no picture', { cause: failed() }))",
    "  console.trace('here')",
    '  every(100, () => led.write(1))',
  ]
  const { fence } = await robot.commit('placed', author(body.join('\n')))
  // what is logged and what is printed come by two ways, in any order
  const printed = await eventually(async () => {
    const own = (await robot.logs()).filter((line) => line.fence === fence && line.stream !== 'runtime')
    const isHere = (part: string) => own.some(({ text }) => text.includes(part))
    return ['read Error: EIO\n', 'program.ts:8:', 'program.ts:9:', '100%'].every(isHere) && own
  })
  const text = printed.map((line) => line.text).join('\n')
  expect(text).not.toMatch(/program\.mjs|node:|medulla/)
  for (const line of [5, 6, 7, 8])
    expect(text).toMatch(new RegExp(`\\(program\\.ts:4:\\d+\\)\\n *at .*\\(?program\\.ts:${line}:\\d+\\)?\\n`))
  expect(text).toMatch(/^read: \{\n? *failed: Error: EIO\n/m)
  expect(text).toContain('Error: no picture\n')
  expect(text).toContain('program.ts:9:11')
  expect(text).toContain('100%')
})
