import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { COMMANDS } from '../../../../deploy/laptop/cli/commands.ts'
import { EXIT } from '../../../../deploy/laptop/cli/exit.ts'
import { robotCard } from './cards.ts'
import { Laptop } from './medulla.ts'

let laptop: Laptop
beforeEach(() => {
  laptop = new Laptop()
})
afterEach(() => laptop.close())

/** Trusts the card of a robot that does not exist, at an address where nothing may listen. */
async function trustCard(name: string, address: string): Promise<string> {
  const { signed, id } = await robotCard(name)
  const file = join(laptop.dir, `${name}.json`)
  writeFileSync(file, JSON.stringify(signed))
  expect(await laptop.run('trust', name, address, '--card', file)).toMatchObject({ status: 0 })
  return id
}

test('P11: --help lists every command and every exit code', async () => {
  const { status, stdout, stderr } = await laptop.run('--help')
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  for (const name of Object.keys(COMMANDS)) expect(stdout).toMatch(new RegExp(`^  ${name} +\\S`, 'm'))
  for (const code of Object.values(EXIT)) expect(stdout).toMatch(new RegExp(`^  ${code} +\\S`, 'm'))
})

test.each(Object.keys(COMMANDS))(
  'medulla %s --help has an example that the command itself understands',
  async (name) => {
    const { status, stdout, stderr } = await laptop.run(name, '--help')
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toMatch(new RegExp(`^Usage: medulla ${name} `))
    expect(stdout).toMatch(new RegExp(`^ {2}\\$ (?:sudo )?medulla ${name}\\b`, 'm'))
    expect(stdout).toContain('--device <robot>')
    expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([])
  },
)

test('keygen makes a private key, and does not replace it', async () => {
  const { status, events } = await laptop.json('keygen', '--comment', 'ann@desk')
  expect(status).toBe(0)
  expect(events).toMatchObject([{ event: 'key', publicKey: expect.stringMatching(/^ssh-ed25519 /) }])
  expect(readFileSync(join(laptop.dir, 'config/id_ed25519.pub'), 'utf8')).toMatch(/ ann@desk\n$/)
  const path = join(laptop.dir, 'config/id_ed25519')
  expect(statSync(path).mode & 0o777).toBe(0o600)
  const before = readFileSync(path)
  expect(await laptop.run('keygen')).toEqual({
    status: 3,
    stdout: '',
    stderr: `medulla: error: ${path} or its .pub exists already\nmedulla: hint: use this key, or move it away first\n`,
  })
  expect(readFileSync(path)).toEqual(before)
})

test('trust refuses a card whose name or fingerprint differs from the given one', async () => {
  const id = await trustCard('arm', '127.0.0.1:1')
  const card = join(laptop.dir, 'arm.json')
  const known = JSON.parse(readFileSync(join(laptop.dir, 'config/robots.json'), 'utf8'))
  expect(known).toEqual({ robots: { arm: { address: '127.0.0.1:1', card: JSON.parse(readFileSync(card, 'utf8')) } } })
  expect(await laptop.run('trust', 'arm', '127.0.0.1', '--card', card, '--id', id)).toMatchObject({ status: 0 })

  const wrong = `SHA256:${'A'.repeat(43)}`
  expect(await laptop.run('trust', 'arm', 'x', '--card', card, '--id', wrong)).toMatchObject({
    status: 3,
    stderr: `medulla: error: the card belongs to ${id}, expected ${wrong}\nmedulla: hint: medulla robots\n`,
  })
  const broken = join(laptop.dir, 'broken.json')
  const { cert, sig } = JSON.parse(readFileSync(card, 'utf8'))
  writeFileSync(broken, JSON.stringify({ cert: cert.replace('"arm"', '"leg"'), sig }))
  expect(await laptop.run('trust', 'leg', 'x', '--card', broken)).toMatchObject({ status: 3, stdout: '' })
  expect(await laptop.run('trust', 'Leg', 'x', '--card', card)).toMatchObject({ status: 2, stdout: '' })
  expect(await laptop.run('trust', 'arm')).toMatchObject({ status: 2, stdout: '' })
})

test("trust --export prints the operator's card, which trust refuses as a robot's", async () => {
  expect(await laptop.run('trust', '--export')).toMatchObject({ status: 3, stdout: '' })
  await laptop.run('keygen')
  const { status, stdout } = await laptop.run('trust', '--export')
  expect(status).toBe(0)
  const card = join(laptop.dir, 'me.json')
  writeFileSync(card, stdout)
  expect(JSON.parse(JSON.parse(stdout).cert)).toMatchObject({ subject: 'operator' })
  expect(await laptop.run('trust', 'me', 'x', '--card', card)).toMatchObject({ status: 3 })
})

test.each([
  [['pus'], 'unknown command "pus"', 'did you mean: medulla push'],
  [['xyzzy'], 'unknown command "xyzzy"', 'medulla --help'],
  [['push', '--slto', 'x'], "unknown option '--slto'; did you mean --slot?", 'medulla push --help'],
  [['push', 'a', 'b'], /too many arguments/, 'medulla push --help'],
  [['push', 'nowhere'], 'no such file or folder: nowhere', 'medulla push --help'],
  [
    ['push', '.', '--slot', 'Main'],
    'expected the name of a slot, like main or left-arm, got "Main"',
    'medulla push --help',
  ],
  [['logs', '-n', 'ten'], '--lines: expected a whole number from 0 to 10000, got "ten"', 'medulla logs --help'],
  [['push', '--types', 'maybe'], '--types: expected warn, off, error, got "maybe"', 'medulla push --help'],
  [['new'], "missing required argument 'name'", 'medulla new --help'],
  [['new', 'Bad Name'], /^expected a program name like/, 'medulla new --help'],
  [['rollback', 'xyz'], 'expected the first hex digits of a digest, got "xyz"', 'medulla rollback --help'],
  [
    ['logs', '--since', 'yesterday'],
    /^--since: expected 30s, 10m, 2h, 1d or a time .* got "yesterday"$/,
    'medulla logs --help',
  ],
  [['logs', '--level', 'loud'], '--level: expected debug, info, warn, error, got "loud"', 'medulla logs --help'],
  [['set', 'led'], "missing required argument 'value'", 'medulla set --help'],
  [['set', 'led', 'bright'], 'expected a number, on or off, got "bright"', 'medulla set --help'],
  [['set', 'a b', '1'], 'no handle is called "a b"', 'medulla set --help'],
  [['-d'], /option '-d, --device <robot>' argument missing/, 'medulla --help'],
])('a usage error exits 2 with a hint: medulla %j', async (args, message, hint) => {
  const { status, stdout, stderr } = await laptop.run(...args)
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
  const [first = '', second] = stderr.trimEnd().split('\n')
  expect(first.replace('medulla: error: ', '')).toEqual(
    typeof message === 'string' ? message : expect.stringMatching(message),
  )
  expect(second).toBe(hint === undefined ? undefined : `medulla: hint: ${hint}`)
  const { events } = await laptop.json(...args)
  expect(events).toMatchObject([{ event: 'error', error: { code: 'usage' } }])
})

test('without a known robot a command fails and says how to get one', async () => {
  expect(await laptop.run()).toEqual({
    status: 0,
    stdout: 'This laptop knows no robot yet.\n',
    stderr: 'medulla: hint: medulla sim starts a simulated one; medulla --help shows all commands\n',
  })
  expect(await laptop.run('status')).toMatchObject({
    status: 3,
    stderr: expect.stringContaining('this laptop knows no robot yet'),
  })
  expect(await laptop.run('status', '-d', 'sim')).toMatchObject({
    status: 3,
    stderr: 'medulla: error: no robot is called "sim"; this laptop knows none yet\nmedulla: hint: medulla sim\n',
  })
})

test('an unreachable robot exits 5, also when another server answers at its address', async () => {
  await laptop.run('keygen')
  await trustCard('arm', '127.0.0.1:1')
  for (const words of [['status'], ['logs'], ['stop'], ['receipts'], ['rollback']]) {
    const { status, stdout, stderr } = await laptop.run(...words, '-d', 'arm')
    expect({ status, stdout }).toEqual({ status: 5, stdout: '' })
    expect(stderr).toMatch(/^medulla: error: no robot at 127\.0\.0\.1:1: .*ECONNREFUSED/)
  }
  const server = createServer((socket) => socket.end('SSH-2.0-OpenSSH_9.6\r\n')).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as { port: number }
  await trustCard('leg', `127.0.0.1:${port}`)
  expect(await laptop.run('status', '-d', 'leg')).toMatchObject({ status: 5 })
  const overview = await laptop.json()
  expect(overview.status).toBe(0)
  expect(overview.events).toMatchObject([
    { event: 'robot', name: 'arm', error: { code: 'unreachable' } },
    { event: 'robot', name: 'leg', error: { code: 'unreachable' } },
  ])
  server.close()
})

test('new makes a program that builds, and refuses a folder that is not empty', async () => {
  await laptop.run('keygen')
  await trustCard('arm', '127.0.0.1:1')
  expect(await laptop.run('new', 'blinky')).toMatchObject({
    status: 0,
    stdout: expect.stringContaining(`made ${join(laptop.dir, 'blinky')}: board.json, `),
  })
  const { status, events } = await laptop.json('build', 'blinky', '-o', 'b.medulla')
  expect(status).toBe(0)
  expect(events).toMatchObject([{ event: 'built', program: 'blinky', version: '1.0.0', file: 'b.medulla' }])
  expect(events[0]).toMatchObject({
    h1: expect.stringMatching(/^h1:.{44}$/),
    bytes: statSync(join(laptop.dir, 'b.medulla')).size,
  })
  expect(await laptop.run('new', 'blinky')).toMatchObject({ status: 2, stdout: '' })
})

test('a program that does not build exits 6, with the place', async () => {
  await laptop.run('keygen')
  await trustCard('arm', '127.0.0.1:1')
  writeFileSync(
    join(laptop.dir, 'bad.ts'),
    "import { robot } from 'medulla'\nrobot({ led: 'output' }, ({ led ) => {})\n",
  )
  const { status, stdout, stderr } = await laptop.run('build', 'bad.ts')
  expect({ status, stdout }).toEqual({ status: 6, stdout: '' })
  expect(stderr).toContain('bad.ts')
})

test('doctor exits 0 for a board that can run on this machine, and 3 with a fix otherwise', async () => {
  const file = join(laptop.dir, 'board.json')
  const here = ['--home', join(laptop.dir, 'home'), '--board', file]
  writeFileSync(file, '{ "model": "sim", "handles": {} }')
  const good = await laptop.run('doctor', ...here)
  expect(good).toMatchObject({ status: 0, stderr: '' })
  expect(good.stdout).toMatch(new RegExp(`^ok +board +${file}: model sim, 0 handles$`, 'm'))
  expect(good.stdout).toMatch(/^0 problems, \d+ warnings?\.$|^All is well\.$/m)

  const led = { kind: 'output', line: 'GPIO17' }
  writeFileSync(file, JSON.stringify({ model: 'linux', chip: 'no such chip', handles: { led } }))
  const bad = await laptop.json('doctor', ...here)
  expect(bad).toMatchObject({ status: 3, stderr: '' })
  const problems = bad.events.filter(({ severity }) => severity === 'problem')
  expect(problems).toContainEqual({
    event: 'finding',
    about: 'gpio',
    severity: 'problem',
    found: expect.any(String),
    fix: [expect.any(Object)],
  })
  expect(bad.events.at(-1)).toMatchObject({ event: 'doctor', board: file, problems: problems.length })
  expect((await laptop.run('doctor', ...here)).stdout).toMatch(/^PROBLEM +gpio +\S.*\n +\S/m)

  writeFileSync(file, '{ "model": "pi4", "handles": { "led": { "kind": "output", "line": "GPIO99" } } }')
  const mistaken = await laptop.run('doctor', ...here)
  expect(mistaken.status).toBe(3)
  expect(mistaken.stdout).toMatch(/^PROBLEM +board +\S*: handles\.led\.line: expected a line from GPIO0 to GPIO53/m)
  expect(mistaken.stdout).toMatch(/^ +do: /m)
})

test('runtime run prints where it listens, ends in order, and is refused without a board file', async () => {
  const home = join(laptop.dir, 'home')
  const args = ['runtime', 'run', '--minimal', '--home', home, '--host', '127.0.0.1', '--port', '0', '--name', 'arm']
  const file = join(home, 'board.json')
  const refused = `there is no board file ${file}`
  expect(await laptop.json(...args)).toMatchObject({
    status: 3,
    events: [
      { event: 'error', error: { code: 'bad-board', message: refused, hint: `medulla board new --model pi4 ${file}` } },
    ],
  })
  expect(await laptop.run('board', 'new', '--model', 'sim', file)).toMatchObject({ status: 0 })
  const runtime = laptop.start(args)
  const line = await new Promise<string>((resolve) => runtime.stdout?.once('data', resolve))
  expect(JSON.parse(line)).toMatchObject({ event: 'listening', name: 'arm', host: '127.0.0.1', home })
  runtime.kill('SIGTERM')
  expect(await runtime.ended).toMatchObject({ status: 0 })
})
