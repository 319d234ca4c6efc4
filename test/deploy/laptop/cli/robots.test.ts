/** A laptop that knows two robots, and `medulla sim` as the first command of a new user. */
import { spawn, spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SCALE, eventually as within } from '../../../e2e/eventually.ts'
import { ROOT } from '../../../project/tree.ts'
import { CLI, Laptop, type Running } from './medulla.ts'

const SLOW = { tags: ['slow'], timeout: 600_000 * SCALE }
/** Each command is a separate process, on a machine that may be busy. */
const eventually = <T>(probe: () => T | false | null | undefined | Promise<T | false | null | undefined>) =>
  within(probe, 120_000 * SCALE)

let laptop: Laptop
const sims: Partial<Record<string, Running>> = {}

async function start(name: string, ...more: string[]): Promise<{ port: number }> {
  const sim = laptop.start(['sim', '--name', name, '--json', ...more])
  sims[name] = sim
  const line = await new Promise<string>((resolve, reject) => {
    sim.stdout?.once('data', resolve)
    sim.ended.then(({ stderr }) => reject(new Error(stderr)), reject)
  })
  return JSON.parse(line) as { port: number }
}

async function stop(name: string): Promise<void> {
  sims[name]?.kill('SIGTERM')
  await sims[name]?.ended
}

beforeAll(async () => {
  laptop = new Laptop()
  await start('left', '--port', '0')
  await start('right', '--port', '0', '--board', join(ROOT, 'robots/weather/board.json'))
})
afterAll(() => laptop.close())

const good = async (...args: string[]): Promise<string> => {
  const { status, stdout, stderr } = await laptop.run(...args)
  expect({ status, stderr }, stdout).toEqual({ status: 0, stderr: '' })
  return stdout
}

/** What `sim --keep` prints for this robot, which has ended when this returns. */
async function kept(name: string, ...more: string[]): Promise<string> {
  const stdout = await good('sim', '--name', name, '--keep', ...more)
  process.kill(Number(/kill (\d+) ends it/.exec(stdout)?.[1]))
  await eventually(async () => (await laptop.run('status', '-d', name)).status === 5)
  return stdout
}

test('sim as the first command makes a key, and says so', async () => {
  expect(existsSync(join(laptop.dir, 'config/id_ed25519'))).toBe(true)
  await stop('left')
  const { stderr } = (await sims.left?.ended) ?? {}
  expect(stderr).toContain('you had no key to sign programs with: made ')
  // laptop and robot know each other from the start: no code, no window
  expect(stderr).not.toContain('pairing')
  await start('left')
})

test(
  'with two robots a command asks which; use, MEDULLA_DEVICE and -d say it, in this order of strength',
  SLOW,
  async () => {
    expect(await laptop.run('status')).toMatchObject({
      status: 2,
      stderr: 'medulla: error: which robot? known: left, right\nmedulla: hint: medulla use left, or add -d left\n',
    })
    expect(await laptop.run('use', 'middle')).toMatchObject({
      status: 3,
      stderr: 'medulla: error: no robot is called "middle"; known: left, right\nmedulla: hint: medulla robots\n',
    })
    expect(await good('use', 'right')).toMatch(/^commands without -d mean right at 127\.0\.0\.1:\d+ now\n$/)
    expect((await laptop.run('robots')).stdout).toMatch(
      /^ +robot +address +model +version +there +runs\n +left +\S+ +sim +[\d.]+ +yes +nothing\n\* +right +\S+ +sim +[\d.]+ +yes +nothing\n$/,
    )
    const name = (env: Record<string, string>, ...args: string[]) =>
      laptop.start(['status', '--json', ...args], env).ended.then(({ stdout }) => JSON.parse(stdout).name)
    expect(await name({})).toBe('right')
    expect(await name({ MEDULLA_DEVICE: 'left' })).toBe('left')
    expect(await name({ MEDULLA_DEVICE: '' })).toBe('right')
    expect(await name({ MEDULLA_DEVICE: 'left' }, '-d', 'right')).toBe('right')
  },
)

test('hints have -d when the command would otherwise reach another robot', SLOW, async () => {
  expect((await laptop.run('start', '-d', 'left', '--slot', 'ghost')).stderr).toMatch(/hint: medulla status -d left\n$/)
  expect((await laptop.run('start', '-d', 'right', '--slot', 'ghost')).stderr).toMatch(/hint: medulla status\n$/)
})

test('estop stops the chosen robot, or all with --all; in a terminal it asks', SLOW, async () => {
  const stopped = async (name: string) => (await laptop.json('status', '-d', name)).events[0]?.estop !== null
  expect(await good('estop')).toBe('estopped: everything is stopped, outputs are at their safe levels\n')
  expect(await Promise.all(['left', 'right'].map(stopped))).toEqual([false, true])
  expect(await good('estop', '--all')).toMatch(/^left:\nestopped: .*\nright:\nestopped: .*\n$/)
  expect(await Promise.all(['left', 'right'].map(stopped))).toEqual([true, true])
  await good('estop', '--release', '--all')
  expect(await laptop.run('estop', '--all', '-d', 'left')).toMatchObject({ status: 2 })

  const path = join(laptop.dir, 'config/robots.json')
  const { default: _, ...known } = JSON.parse(readFileSync(path, 'utf8'))
  writeFileSync(path, JSON.stringify(known, null, 2))
  expect((await laptop.run('estop')).stderr).toMatch(
    /which robot\? .*\n.*hint: medulla estop --all, or medulla estop -d left\n$/,
  )
  expect(await Promise.all(['left', 'right'].map(stopped))).toEqual([false, false])
  const terminal = laptop.inTerminal(`${process.execPath} ${CLI} estop; echo "exit $?"`)
  await eventually(() => terminal.text().includes('Enter: all of them'))
  terminal.type('2\r')
  await terminal.ended
  expect(terminal.text()).toContain('exit 0')
  expect(await Promise.all(['left', 'right'].map(stopped))).toEqual([false, true])
  await good('estop', '--release', '-d', 'right')
})

test('poke presses an input in logical levels, and sets what a chip senses', SLOW, async () => {
  const left = ['-d', 'left']
  await good('push', join(ROOT, 'robots/button-counter'), ...left)
  expect(await good('poke', 'button', '1', ...left)).toBe('button is 1\n')
  expect(await good('get', 'button', ...left)).toBe('1\n')
  expect(await good('poke', 'button', 'release', ...left)).toBe('button is 0\n')
  expect(await good('poke', 'button', 'tap', ...left)).toBe('button was tapped, and is 0\n')
  await eventually(async () => (await good('logs', ...left)).includes('pressed 2 times'))
  expect(await good('poke', 'imu', 'accel', '[0, 0, 1]', ...left)).toBe('imu: accel is [0, 0, 1]\n')
  for (const [words, status, message] of [
    [['button', '2'], 2, 'expected 0, 1 or release, got 2'],
    [['button', 'hard'], 2, 'expected 0, 1, tap, release or JSON, got "hard"'],
    [['led', '1'], 3, 'led is no input'],
    [['imu', 'acel', '1'], 2, 'cannot poke acel'],
    [['ghost', '1'], 3, 'this board has no handle ghost'],
    [['imu', 'accel', '0', '0', '1'], 2, 'expected NAME VALUE or NAME WHAT VALUE'],
  ] as const) {
    const got = await laptop.run('poke', ...words, ...left)
    expect(got, words.join(' ')).toMatchObject({ status, stderr: expect.stringContaining(message) })
  }
})

test('a push over the same version says so, and status shows no error of an undone push', SLOW, async () => {
  const folder = join(laptop.dir, 'counter')
  mkdirSync(folder)
  for (const file of ['package.json', 'program.ts'])
    copyFileSync(join(ROOT, 'robots/button-counter', file), join(folder, file))
  const program = join(folder, 'program.ts')
  writeFileSync(program, readFileSync(program, 'utf8').replace('times', 'times so far'))
  expect(await good('push', folder, '-d', 'left')).toMatch(/ bytes, over another build of the same version\n/)
  writeFileSync(program, readFileSync(program, 'utf8').replace('lamp.write', 'nothing.write').replace('run({', "run({ health,").replace('if (info.tookOver)', "health(() => 'no')\n    if (info.tookOver)")) // biome-ignore format: one change
  expect(await laptop.run('push', folder, '-d', 'left')).toMatchObject({ status: 4 })
  const status = await good('status', '-d', 'left')
  expect(status).toContain('main: running button-counter 1.0.0')
  expect(status).not.toContain('last error')
})

test('sim keeps the board of its last start, and takes another port when its own is in use', SLOW, async () => {
  await stop('right')
  const { port } = JSON.parse(readFileSync(join(laptop.dir, 'config/robots.json'), 'utf8').replace(/"[^"]*:(\d+)"/g, '{"port":$1}')).robots.right.address // biome-ignore format: one value
  const other = await new Promise<Server>((resolve) => {
    const server = createServer().listen(port, '127.0.0.1', () => resolve(server))
  })
  const { port: now } = await start('right')
  expect(now).not.toBe(port)
  other.close()
  expect(await good('pinout', '-d', 'right')).toContain('sensor')
})

test(
  'sim says of a robot whose emergency stop is latched that no program runs, and how to release it',
  SLOW,
  async () => {
    await good('push', join(ROOT, 'robots/button-counter'), '-d', 'left')
    await good('estop', '-d', 'left')
    await stop('left')
    const stdout = await kept('left')
    expect(stdout).toMatch(/^No program runs: an emergency stop is latched since \S+, by an operator\.$/m)
    expect(stdout).toMatch(/ ends it\. Next:\n {2}medulla estop -d left --release\n {2}medulla start -d left\n$/)
    expect(stdout).not.toContain('again')
    await start('left')
    await good('estop', '--release', '-d', 'left')
  },
)

test('sim and status say that a stop ended the program, and how to start it', SLOW, async () => {
  await good('push', join(ROOT, 'robots/button-counter'), '-d', 'left')
  await good('stop', '-d', 'left')
  const hint = '  stopped: medulla start -d left starts its program\n'
  expect(await good('status', '-d', 'left')).toContain(hint)
  await stop('left')
  const stdout = await kept('left')
  expect(stdout).toMatch(/^Its program does not run: it was stopped\.$/m)
  expect(stdout).toMatch(/ ends it\. Next:\n {2}medulla start -d left\n {2}medulla status -d left\n$/)
  await start('left')
  expect(await good('status', '-d', 'left')).toContain(hint)
  await good('start', '-d', 'left')
  expect(await good('status', '-d', 'left')).not.toContain('stopped:')
})

test('sim says what the program of a slot waits for, and that a crashing one is started again', SLOW, async () => {
  await stop('left')
  const stdout = await kept('left', '--board', join(ROOT, 'robots/weather/board.json'))
  expect(stdout).toMatch(
    /^button-counter 1\.0\.0 does not run\. It waits: program needs .*; change the board file and restart the runtime/m,
  )
  expect(stdout).toMatch(/ ends it\. Next:\n {2}medulla status -d left\n$/)
  expect(stdout).not.toContain(' again')

  await start('left', '--board', join(ROOT, 'robots/template/board.json'))
  const folder = join(laptop.dir, 'crashes')
  mkdirSync(folder)
  writeFileSync(join(folder, 'package.json'), '{ "name": "crashes", "version": "1.0.0", "type": "module" }')
  const marker = join(laptop.dir, 'crash-now')
  writeFileSync(
    join(folder, 'program.ts'),
    `import { existsSync } from 'node:fs'
import { robot } from 'medulla'
robot({ led: 'output' }, ({ every }) => {
  if (existsSync(${JSON.stringify(marker)})) throw new Error('no luck')
  every(100, () => {})
})
`,
  )
  await good('push', folder, '--types', 'off', '-d', 'left')
  await stop('left')
  writeFileSync(marker, '')
  const crashed = await kept('left')
  expect(crashed).toMatch(/^Its program failed, and is started again: .*no luck/m)
  expect(crashed).toMatch(/ ends it\. Next:\n {2}medulla .*\n {2}medulla status -d left\n$/)
  await start('left')
  await good('push', join(ROOT, 'robots/button-counter'), '-d', 'left', '--force')
})

test('sim ends when the reader of its output ends', SLOW, async () => {
  const shell = `'${process.execPath}' '${CLI}' sim --name piped --port 0 --json | head -n 1`
  const env = { PATH: process.env.PATH, HOME: laptop.dir, MEDULLA_CONFIG: join(laptop.dir, 'config') }
  const child = spawn('sh', ['-c', shell], { cwd: laptop.dir, env, stdio: ['ignore', 'pipe', 'ignore'] })
  let text = ''
  child.stdout.on('data', (more) => {
    text += more
  })
  // the shell waits for the whole pipeline
  await new Promise((resolve) => child.once('close', resolve))
  const { home } = JSON.parse(text)
  // the robot has released its home
  expect(await laptop.run('trust', '--home', home, join(laptop.dir, 'none'))).toMatchObject({ status: 2 })
  await good('forget', 'piped')
})

test('the next commands that new prints work with the known robots, for every example', SLOW, async () => {
  for (const from of ['blink', 'arm', 'balance', 'line-follower', 'weather', 'web']) {
    const { events } = await laptop.json('new', `my-${from}`, '--from', from)
    expect(events).toMatchObject([{ event: 'made', name: `my-${from}`, next: { length: 3 } }])
    const project = JSON.parse(readFileSync(join(laptop.dir, `my-${from}/package.json`), 'utf8'))
    expect(project).toMatchObject({ name: `my-${from}`, dependencies: { medulla: `file:${ROOT.replace(/\/$/, '')}` } })
    const check = await laptop.json('board', 'check', `my-${from}/board.json`)
    expect(check.status).toBe(0)
  }
  await good('push', 'my-weather', '-d', 'right')
  expect(await laptop.run('new', 'other', '--from', 'rover')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining('--from: expected blink, arm, balance, line-follower, weather, web, got "rover"'),
  })
})

test('completion completes commands, options and robots in bash', SLOW, async () => {
  const bin = join(laptop.dir, 'bin')
  mkdirSync(bin)
  writeFileSync(join(bin, 'medulla'), `#!/bin/sh\nexec '${process.execPath}' '${CLI}' "$@"\n`)
  chmodSync(join(bin, 'medulla'), 0o755)
  writeFileSync(join(laptop.dir, 'completion.bash'), await good('completion', 'bash'))
  const complete = (...words: string[]): string[] => {
    const script = `. ./completion.bash; COMP_WORDS=(medulla ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}; _medulla; printf '%s\\n' "\${COMPREPLY[@]}"`
    const env = { PATH: `${bin}:${process.env.PATH}`, MEDULLA_CONFIG: join(laptop.dir, 'config') }
    return spawnSync('bash', ['-c', script], { cwd: laptop.dir, env, encoding: 'utf8' }).stdout.trim().split('\n')
  }
  expect(complete('est')).toEqual(['estop'])
  expect(complete('help', 'poke')).toEqual(['poke'])
  expect(complete('push', '--re')).toEqual(['--retry'])
  expect(complete('push', '-d', '')).toEqual(['left', 'right'])
  expect(complete('operators', 'a')).toContain('add')
  for (const shell of ['zsh', 'fish']) expect(await good('completion', shell)).toContain('estop')
  expect(await laptop.run('completion', 'tcsh')).toMatchObject({ status: 2 })
})

test('help CMD prints the same as CMD --help', async () => {
  expect(await good('help', 'poke')).toBe(await good('poke', '--help'))
  expect(await good('help')).toBe(await good('--help'))
})
