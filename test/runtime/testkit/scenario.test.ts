import { type Context, type I2cDevice, type Input, type Output, robot } from 'medulla'
import { simulate } from 'medulla/test'
import { expect, test } from 'vitest'
import { runScenario } from '../../../runtime/testkit/runner.ts'
import { parseScenario } from '../../../runtime/testkit/scenario.ts'

const board = {
  handles: {
    led: { kind: 'output', line: 17 },
    button: { kind: 'input', line: 27 },
    imu: { kind: 'i2c', bus: 1, address: '0x68', simulate: 'mpu6050' },
  },
}
type Run = (context: { led: Output; button: Input; imu: I2cDevice } & Context<object>) => void
const needs = { led: 'output', button: 'input', imu: 'i2c' } as const

async function verdict(run: Run, steps: object[], texts: { expect?: string; fail?: string } = {}) {
  const scenario = parseScenario(JSON.stringify({ steps }), '/here/scenario.json')
  const sim = await simulate(() => robot(needs, run), { board })
  const source = (path: string) => ({
    program: 'next',
    version: '2.0.0',
    load: () => robot(needs, ({ led, log }) => log(`${path} ${led.value}`)),
  })
  const found = await runScenario(sim, scenario, { ...texts, timeoutMs: 60_000, source })
  const { ms } = sim
  await sim.stop()
  return { ...found, ms }
}

const blink: Run = ({ led, button, every, log }) => {
  every(100, () => led.write(!led.value))
  button.onEdge(({ level }) => log(`button ${level}`))
}

test('a scenario with every kind of step runs them in order', async () => {
  const steps = [
    { expect: { led: 0 } },
    { at: '1s', expect: { led: 1 } },
    { delay: 50, pull: { button: 1 } },
    { expect: { led: 0, button: 1 }, within: '50ms' },
    { release: 'button' },
    { poke: { imu: { accel: [1, 0, 0], 'nack-next': 2 } } },
    {
      at: 1450,
      states: {
        led: [
          [0, '1100ms'],
          [1, 1200],
          [0, 1300],
          [1, 1400],
        ],
      },
    },
    { swap: 'other' },
    { at: '3s', rollback: true },
    { 'wait-log': 'button 2', within: '1ms' },
  ]
  expect(await verdict(blink, steps)).toEqual({
    passed: false,
    late: false,
    why: 'steps[9]: nothing logged "button 2" within 1 ms',
    ms: 3001,
  })
  expect(await verdict(blink, steps.slice(0, 9), { expect: '/here/other 1' })).toEqual({ passed: true, ms: 3000 })
})

test.each<[string, Run, object[], string, boolean, number]>([
  ['a value', blink, [{ delay: '1s', expect: { led: 0 } }], 'steps[0]: expected led 0, got 1', false, 1000],
  ['a value in time', () => {}, [{ expect: { led: 1 }, within: '5s' }], 'steps[0]: expected led 1, got 0', false, 5000],
  [
    'what was done',
    blink,
    [{ states: { led: [[1, 0]] } }],
    'steps[0]: led: state 1: expected 1 from 0 ms on, got 0 from 0 ms on',
    false,
    0,
  ],
  ['a state', blink, [{ state: { n: 1 } }], 'steps[0]: expected state.n 1, got undefined', false, 0],
  ['a handle', blink, [{ expect: { lid: 1 } }], 'steps[0]: lid: the board has no such handle', false, 0],
  ['a poke', blink, [{ poke: { led: { x: 1 } } }], 'steps[0]: led: only a chip can be poked', false, 0],
  [
    'a time that is over',
    blink,
    [{ at: '2s' }, { at: '1s' }],
    'steps[1]: at 1000 ms: the simulation is already at 2000 ms',
    false,
    2000,
  ],
  ['more time than there is', blink, [{ at: '2m' }], 'steps[0]: the 60000 ms are over', true, 60_000],
  ['a line', blink, [{ 'wait-log': 'x' }], 'steps[0]: nothing logged "x" within 60000 ms', true, 60_000],
  ['nothing to go back to', blink, [{ rollback: true }], 'steps[0]: there is no program to go back to', false, 0],
  [
    'a program that crashes',
    ({ every, led }) =>
      every(1000, () => {
        if (led.value) throw new Error('boom')
        led.write(1)
      }),
    [{ at: '9s' }],
    'steps[0]: at 1000 ms the program crashed: boom at test/runtime/testkit/scenario.test.ts:97:30',
    false,
    1000,
  ],
])('a scenario fails with the step and the reason: %s', async (_, run, steps, why, late, ms) => {
  expect(await verdict(run, steps)).toEqual({ passed: false, late, why, ms })
})

test('the expected text may come before or after the steps end; the forbidden text fails the scenario at any time', async () => {
  const late: Run = ({ log }) => void setTimeout(() => log('here it is'), 5000)
  expect(await verdict(late, [], { expect: 'it is' })).toEqual({ passed: true, ms: 5000 })
  expect(await verdict(late, [{ at: '9s' }], { expect: 'it is' })).toEqual({ passed: true, ms: 9000 })
  expect(await verdict(late, [{ at: '9s' }], { fail: 'it is' })).toMatchObject({ passed: false, late: false, ms: 5000 })
  expect(await verdict(late, [], { expect: 'else' })).toMatchObject({ passed: false, late: true, ms: 60_000 })
  expect(await verdict(late, [], { fail: 'else' })).toEqual({ passed: true, ms: 60_000 })
})

const talker: Run = ({ button, every, log }) => {
  log('hello')
  button.onEdge(({ level }) => log(`door ${level === 1 ? 'opens' : 'shuts'}`))
  let ticks = -1
  every(100, () => {
    ticks++
    if (ticks > 0 && ticks % 10 === 0) log(`second ${ticks / 10}`)
    if (ticks === 25) log('25 ticks')
    if (ticks === 25) log('that is 2.5 s')
  })
}

test.each<[string, object[], number]>([
  ['of the start', [{ 'wait-log': 'hello', within: 0 }], 0],
  [
    'that an action brings at once',
    [
      { at: '1ms', pull: { button: 1 } },
      { 'wait-log': 'opens', within: 0 },
    ],
    1,
  ],
  ['during the delay before it', [{ pull: { button: 1 } }, { delay: '2ms', 'wait-log': 'opens', within: 0 }], 2],
  ['of a time that is over', [{ at: '2600ms' }, { 'wait-log': '25 ticks', within: 0 }], 2600],
  ['after the action of its own step', [{ at: '1ms', pull: { button: 1 }, 'wait-log': 'opens', within: 0 }], 1],
  ['after the swap of its own step', [{ swap: 'other', 'wait-log': '/here/other', within: 0 }], 0],
  ['of one instant', [{ 'wait-log': '25 ticks' }, { 'wait-log': '2.5 s', within: 0 }], 2500],
  ['that is to come', [{ 'wait-log': 'hello' }, { 'wait-log': 'second 3' }], 3000],
  ['with the same text, one after the other', Array(3).fill({ 'wait-log': 'second' }), 3000],
  ['for all that a swap brought', [{ swap: 'other' }, { 'wait-log': '/here/other', within: 0 }], 0],
])('wait-log finds a line %s', async (_, steps, ms) => {
  expect(await verdict(talker, steps)).toEqual({ passed: true, ms })
})

test('wait-log ignores lines that an earlier wait-log took or passed over', async () => {
  const passed = [{ 'wait-log': '2.5 s' }, { 'wait-log': '25 ticks', within: '3s' }]
  expect(await verdict(talker, passed)).toMatchObject({
    passed: false,
    why: 'steps[1]: nothing logged "25 ticks" within 3000 ms',
  })
  const taken = [{ 'wait-log': 'hello' }, { 'wait-log': 'hello', within: '3s' }]
  expect(await verdict(talker, taken)).toMatchObject({ passed: false, ms: 3000 })
})

test('until(text) of a simulation takes log lines in the same order as wait-log', async () => {
  const sim = await simulate(() => robot(needs, talker), { board })
  await sim.until('hello', 0)
  sim.pull('button', 1)
  await sim.until('door opens', 0)
  await expect(sim.until('door opens', '10ms')).rejects.toThrow('after 10 ms: nothing logged "door opens"')
  await sim.until('25 ticks')
  await sim.until('2.5 s', 0)
  expect(sim.ms).toBe(2500)
  await sim.stop()
})

test.each([
  ['{ "steps": [ { "pul": {} } ] }', ':1:16: steps[0].pul: unknown key'],
  ['{ "step": [] }', ':1:3: step: unknown key'],
  ['{ "steps": [ { "pull": { "button": 2 } } ] }', ':1:26: steps[0].pull.button: expected one of 0, 1, got 2'],
  [
    '{\n  "timeout": "1 year"\n}',
    ':2:3: timeout: expected ms, or a time like "500ms", "2s" or "1h", of at most a day, got "1 year"',
  ],
  [
    '{ "steps": [ { "rollback": true, "crash": true } ] }',
    ':1:14: steps[0]: expected one of rollback and crash in a step',
  ],
  [
    '{ "steps": [ { "expect": {}, "wait-log": "x" } ] }',
    ':1:14: steps[0]: expected one of wait-log and expect in a step',
  ],
  [
    '{ "steps": [ { "crash": true, "swap": "x", "wait-log": "x" } ] }',
    ':1:14: steps[0]: expected one of wait-log and swap and crash in a step',
  ],
  ['{ "steps": [ { "at": 1, "delay": 1 } ] }', ':1:14: steps[0]: expected at or delay, not both'],
  ['{ "steps": [ { "within": "1s" } ] }', ':1:14: steps[0]: expected at, delay or one of pull, release'],
  ['{ "steps": ', ':1:12: expected a value, got the end of the file'],
  [`{ "steps": [${'{"at":1},'.repeat(1001)}] }`, 'steps: expected at most 1000'],
])('a mistake in a scenario file is reported with its place: %.60s', (text, message) => {
  let thrown = ''
  try {
    parseScenario(text, 's.json')
  } catch (error) {
    thrown = (error as Error).message
  }
  expect(thrown).toContain(message)
})

test('steps send messages to the program, and expect those that it sends', async () => {
  const talks: Run = ({ channel }) => {
    const tune = channel('tune')
    tune.on('message', (message) => tune.send({ got: message }))
    setTimeout(() => tune.send('later'), 50)
  }
  const steps = [
    { send: { tune: { kp: 1.5 } } },
    { messages: { tune: [{ got: { kp: 1.5 } }] }, within: '10ms' },
    { messages: { tune: ['later'] }, within: '60ms' },
    { messages: { tune: ['never'] }, within: '10ms' },
  ]
  expect(await verdict(talks, steps.slice(0, 3))).toMatchObject({ passed: true })
  const why = 'steps[3]: expected messages on tune ["never"], got []'
  expect(await verdict(talks, steps)).toMatchObject({ passed: false, late: false, why })
})
