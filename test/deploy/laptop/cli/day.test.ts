/** The everyday commands at one robot, in this order. */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import * as programs from '../../../e2e/programs.ts'
import { Laptop, PATIENT } from './medulla.ts'

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
  const timing = { ...PATIENT, trialMs: 50 }
  writeFileSync(join(laptop.dir, 'board.json'), JSON.stringify({ model: 'sim', handles: HANDLES, timing }))
  await laptop.run('keygen')
  const sim = laptop.start(['sim', '--port', '0', '--board', join(laptop.dir, 'board.json'), '--json'])
  await new Promise((resolve, reject) => {
    sim.stdout?.once('data', resolve)
    sim.ended.then(({ stderr }) => reject(new Error(stderr)), reject)
  })
})
afterAll(() => laptop.close())

/** A program in its own folder, whose name becomes the program's. */
function source(name: string): string {
  const folder = join(laptop.dir, name)
  mkdirSync(folder, { recursive: true })
  copyFileSync(programs.source(name), join(folder, 'program.ts'))
  return folder
}

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

test('param lists, changes and resets declared parameters', { tags: ['slow'] }, async () => {
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
  await bad(
    2,
    'medulla: error: step is given twice\nmedulla: hint: medulla param --help\n',
    'param',
    'step=5',
    'step=6',
  )
  expect(await good('param', '--reset', 'step')).toContain('step       1      1        no   1 to 9')
  expect(await good('param', '--reset')).not.toContain(' yes ')
})

test('HANDLES 6.10: get and set work by handle name, and set refuses a handle that a program holds', {
  tags: ['slow'],
}, async () => {
  const table = (await good('get')).split('\n')
  expect(table[0]).toMatch(/^handle +kind +value +slot$/)
  expect(table[1]).toMatch(/^led +output +[01] +main$/)
  expect(table[5]).toMatch(/^button +input +0$/)
  expect(await good('get', 'enable')).toBe('1\n')
  expect((await laptop.json('get', 'enable')).events).toMatchObject([
    { event: 'pin', name: 'enable', kind: 'output', value: 1, slot: 'main' },
  ])
  const held =
    'medulla: error: led is leased to slot main, whose program writes it\nmedulla: hint: medulla stop --slot main\n'
  await bad(3, held, 'set', 'led', 'on')
  await bad(
    3,
    /^medulla: error: this board has no handle lamp; it has: led, dial, enable, tail, button\n/,
    'set',
    'lamp',
    '1',
  )
  await bad(
    3,
    'medulla: error: no handle lamp has a value; handles with a value: led, dial, enable, tail, button\n' +
      'medulla: hint: medulla pinout shows the handles of the robot\n',
    'get',
    'lamp',
  )

  expect(await good('stop')).toBe('stopped: slot main is stopped, its outputs are at their safe levels\n')
  expect(await good('set', 'led', 'on')).toBe('led is 1\n')
  expect(await good('get', 'led')).toBe('1\n')
  expect((await laptop.json('set', 'dial', '0.25')).events).toMatchObject([{ event: 'pin', name: 'dial', value: 0.25 }])
  await bad(2, /^medulla: error: dial: 0\.9 is beyond its limit, which is 0\.8\n/, 'set', 'dial', '0.9')
  await bad(2, /^medulla: error: led: expected level 0 or 1, got 0\.5\n/, 'set', 'led', '0.5')
  await bad(2, /^medulla: error: dial: expected a duty cycle from 0 to 1, got -1\n/, 'set', 'dial', '-1')
  await bad(3, /^medulla: error: button: kind input cannot be written\n/, 'set', 'button', '1')
  expect(await good('get', 'dial')).toBe('0.25\n')

  const following = laptop.start(['get', 'led', 'dial', '--follow'])
  let seen = ''
  following.stdout?.on('data', (text: string) => {
    seen += text
  })
  await expect.poll(() => seen).toBe('led 1\ndial 0.25\n')
  await good('set', 'tail', '1')
  await good('set', 'led', '0')
  await expect.poll(() => seen).toBe('led 1\ndial 0.25\nled 0\n')
  following.kill('SIGINT')
  expect((await following.ended).status).toBe(0)
})

test('HANDLES 6.10: after estop nothing runs or is written until estop --release, which starts nothing; start does', {
  tags: ['slow'],
}, async () => {
  expect(await good('estop')).toBe('estopped: everything is stopped, outputs are at their safe levels\n')
  const stopped = /^medulla: error: .*stopped since \S+ by an operator\nmedulla: hint: medulla estop --release\n$/
  await bad(3, stopped, 'set', 'led', '1')
  await bad(3, stopped, 'start')
  const { status, stderr } = await laptop.run('push', source('tunable'))
  expect({ status, stderr }).toEqual({ status: 3, stderr: expect.stringMatching(stopped) })
  expect(await good('status')).toMatch(/^EMERGENCY STOP since \S+, by an operator$/m)
  expect(await good('estop', '--release')).toBe(
    'released: the emergency stop is released; nothing was started\nstart again with: medulla start\n',
  )
  expect((await laptop.json('status')).events).toMatchObject([
    { estop: null, slots: [{ slot: 'main', state: 'idle' }] },
  ])
  expect(await good('start')).toBe('started: tunable 0.0.0 runs\n')
  expect(await good('status')).toMatch(/^main: running tunable/m)
  expect(await good('status')).not.toContain('last error')
  await bad(3, /^medulla: error: slot main runs already/, 'start')
})

test('logs filters by slot, time and level', { tags: ['slow'] }, async () => {
  const all = await good('logs', '--slot', 'all', '-n', '1000')
  expect(all).toMatch(/^\S+ main +runtime params: /m)
  expect(await good('logs')).toMatch(/^\S+ runtime +led set to 1 by \S+$/m)
  const warnings = (await laptop.json('logs', '--level', 'warn')).events
  expect(warnings.every(({ level, stream }) => level === 'warn' || level === 'error' || stream === 'stderr')).toBe(true)
  expect((await laptop.json('logs', '--since', '1h')).events.length).toBeGreaterThan(5)
  expect((await laptop.json('logs', '--since', '2999-01-01T00:00:00Z')).events).toEqual([])
  expect((await laptop.json('logs', '--since', '0s')).events).toEqual([])
  await bad(3, /^medulla: error: there is no slot ghost\n/, 'logs', '--slot', 'ghost')
})

test('rollback goes to the previous release, or to any stored release by the beginning of its digest', {
  tags: ['slow'],
}, async () => {
  const digests: string[] = []
  for (let i = 0; i < 2; i++) {
    const { status, events, stderr } = await laptop.json('push', source('tunable'))
    expect(status, stderr).toBe(0)
    digests.push(String(events[0]?.digest).slice(7))
  }
  const list = (await good('rollback', '--list')).trimEnd().split('\n')
  expect(list[0]).toMatch(/^digest +program +installed \(UTC\) +by +how it ran$/)
  // in this column the title is wider than the cells
  const row = (digest = '', ran: string) =>
    new RegExp(`^${digest.slice(0, 8)}  tunable 0\\.0\\.0  \\d\\d-\\d\\d \\d\\d:\\d\\d:\\d\\d {3}\\S+ +${ran} \\d+ s$`)
  expect(list[1]).toMatch(row(digests[1], 'runs for'))
  expect(list[2]).toMatch(row(digests[0], 'ran'))
  expect(list).toHaveLength(4)
  const { events } = await laptop.json('rollback', '--list')
  const first = String(events[2]?.digest).slice(7)
  await bad(3, /^medulla: error: slot main keeps no release 0{64}; it keeps: \S+ tunable 0\.0\.0, \S+ tunable 0\.0\.0\n/, 'rollback', '0'.repeat(64)) // biome-ignore format: one call
  expect(await laptop.run('rollback', digests[1]?.slice(0, 8) ?? '')).toMatchObject({
    status: 0,
    stderr: 'medulla: error: tunable 0.0.0 is what slot main runs\nmedulla: hint: medulla status\n',
  })
  expect(await good('rollback', first.slice(0, 8))).toMatch(/committed: tunable 0\.0\.0 runs\n$/)
  expect((await laptop.json('status')).events).toMatchObject([{ slots: [{ digest: `sha256:${first}` }] }])
  expect(await good('status')).toMatch(/^ {2}before it: [0-9a-f]{8}$/m)
  expect(await good('rollback')).toMatch(/committed: tunable 0\.0\.0 runs\n$/)
  expect((await laptop.json('status')).events).toMatchObject([{ slots: [{ digest: `sha256:${digests[1]}` }] }])
})

test('a push over a holding program shows the reason while it waits, then exits 4 and suggests --force', {
  tags: ['slow'],
}, async () => {
  await good('push', source('holds'))
  const { status, events, stderr } = await laptop.json('push', source('tunable'))
  expect(status).toBe(4)
  expect(events).toContainEqual({ event: 'held', reason: 'the arm is moving' })
  expect(events.at(-1)).toMatchObject({ event: 'result', outcome: 'called-off', code: 'yield-timeout' })
  expect(stderr).toMatch(
    /^medulla: error: called-off: .* did not yield within \d+ ms; the program said: "the arm is moving"; holds 0\.0\.0 runs on\nmedulla: hint: medulla push --force kills /,
  )
  // state belongs to a program's name, so both programs have the same name (HANDOVER 5.9)
  const owned =
    /committed: tunable 0\.0\.0 runs; tunable goes on with its own state of \S+; the state of holds is kept for it\n$/
  expect(await good('push', source('tunable'), '--force')).toMatch(owned)
})

// The last one: the stop is carried out when the body goes on, and is latched.
test('estop says when the robot has not confirmed it, and does not wait for ever', { tags: ['slow'] }, async () => {
  const body = readdirSync('/proc').find((pid) => {
    try {
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      return command.includes('runtime/main.js') && command.includes(laptop.dir)
    } catch {
      return false
    }
  })
  process.kill(Number(body), 'SIGSTOP')
  try {
    await bad(
      5,
      /; the emergency stop is not confirmed, and the robot may still move\nmedulla: hint: cut its power, or press its own stop/,
      'estop',
    )
  } finally {
    process.kill(Number(body), 'SIGCONT')
  }
})
