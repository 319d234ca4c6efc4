/** What a person types all day at one robot, in this order. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { SCALE } from '../e2e/eventually.ts'
import { source } from '../e2e/programs.ts'
import { Laptop } from './medulla.ts'

// each line is a process of its own, and there may be much else to do
vi.setConfig({ testTimeout: 60_000 * SCALE, hookTimeout: 60_000 * SCALE })

const HANDLES = {
  led: { kind: 'output', line: 'GPIO17', safe: 0 },
  dial: { kind: 'pwm', line: 'GPIO18', frequencyHz: 1000, max: 0.8, safe: 'hold' },
  enable: { kind: 'output', line: 'GPIO22', safe: 'hold' },
  tail: { kind: 'output', line: 'GPIO27', safe: 0 },
  button: { kind: 'input', line: 'GPIO23', pull: 'down', edges: 'both' },
}
let laptop: Laptop

/** One robot for the whole file. */
beforeAll(async () => {
  laptop = new Laptop()
  const timing = { trialMs: 50, yieldMs: 300 }
  writeFileSync(join(laptop.dir, 'board.json'), JSON.stringify({ model: 'sim', handles: HANDLES, timing }))
  await laptop.run('keygen')
  const sim = laptop.start(['sim', '--port', '0', '--board', join(laptop.dir, 'board.json'), '--json'])
  await new Promise((resolve, reject) => {
    sim.stdout?.once('data', resolve)
    sim.ended.then(({ stderr }) => reject(new Error(stderr)), reject)
  })
})
afterAll(() => laptop.close())

const good = async (...args: string[]): Promise<string> => {
  const { status, stdout, stderr } = await laptop.run(...args)
  expect({ status, stderr }, stdout).toEqual({ status: 0, stderr: '' })
  return stdout
}
const bad = async (status: number, stderr: string | RegExp, ...args: string[]): Promise<void> => {
  const got = await laptop.run(...args)
  expect(got).toEqual({
    status,
    stdout: '',
    stderr: typeof stderr === 'string' ? stderr : expect.stringMatching(stderr),
  })
}

test('param: lists, changes and resets what the program declares', async () => {
  await bad(3, /^medulla: error: there is no slot main\n/, 'param')
  await good('push', source('tunable'))
  expect(await good('param')).toBe(
    'parameter  value  default  set  allowed\n' +
      'step       1      1        no   1 to 9, in steps of 1\n' +
      'mode       slow   slow     no   slow, fast\n' +
      'armed      false  false    no   true, false\n',
  )
  expect(await good('param', 'step=4', 'armed=true')).toBe(
    'parameter  value  default  set  allowed\n' +
      'step       4      1        yes  1 to 9, in steps of 1\n' +
      'armed      true   false    yes  true, false\n',
  )
  expect((await laptop.json('param', 'step')).events).toEqual([
    {
      event: 'params',
      slot: 'main',
      program: 'tunable',
      version: '0.0.0',
      params: [{ name: 'step', type: 'number', value: 4, default: 1, set: true, min: 1, max: 9, step: 1 }],
    },
  ])
  const hint = 'medulla: hint: medulla param lists what is allowed\n'
  await bad(3, `medulla: error: step: expected 1 to 9 in steps of 1, got "fast"\n${hint}`, 'param', 'step=fast')
  await bad(3, `medulla: error: mode: expected slow or fast, got "4"\n${hint}`, 'param', 'step=5', 'mode=4')
  await bad(3, /^medulla: error: .* no parameter speed; it has: step, mode, armed\n/, 'param', 'speed=1')
  await bad(3, /^medulla: error: .* no parameter speed; it has: step, mode, armed\n/, 'param', 'speed')
  await bad(2, /^medulla: error: expected NAME=VALUE … or NAME …, got "mode" as well\n/, 'param', 'step=5', 'mode')
  await bad(2, /^medulla: error: expected NAME=VALUE … or NAME …/, 'param', '--reset', 'step=5')
  await bad(2, 'medulla: error: step is given twice\n', 'param', 'step=5', 'step=6')
  expect(await good('param', '--reset', 'step')).toContain('step       1      1        no   1 to 9')
  expect(await good('param', '--reset')).not.toContain(' yes ')
})
