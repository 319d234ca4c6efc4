/**
 * A robot and a laptop in two network namespaces with a wire between them, and a liar on that wire. Nothing is sent to the network
 * of this computer. Needs root.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Announcer } from '../../runtime/body/endpoint/announcer.ts'
import { CLI, type Ended, Laptop } from '../deploy/laptop/cli/medulla.ts'
import { eventually, SCALE } from './eventually.ts'
import { RUNTIME } from './programs.ts'
import { boardText, run } from './robot.ts'

const LIAR = fileURLToPath(new URL('children/liar.mjs', import.meta.url))
const SLOW = { tags: ['slow'], timeout: 300_000 * SCALE }
const [ROBOT, LAPTOP] = [`medulla-r${process.pid}`, `medulla-l${process.pid}`]
const FIRST = '10.77.0.1'

const ip = (...args: string[]): boolean => spawnSync('ip', args, { stdio: 'ignore' }).status === 0
const within = (namespace: string, ...command: string[]): string[] => ['netns', 'exec', namespace, ...command]

/** Two namespaces with a wire; false where this user may not make them. */
function wire(): boolean {
  if (process.platform !== 'linux' || process.getuid?.() !== 0 || !ip('netns', 'add', ROBOT)) return false
  return [
    ip('netns', 'add', LAPTOP),
    ip('link', 'add', 'robot', 'netns', ROBOT, 'type', 'veth', 'peer', 'name', 'laptop', 'netns', LAPTOP),
    ip('-n', ROBOT, 'addr', 'add', `${FIRST}/24`, 'dev', 'robot'),
    ip('-n', LAPTOP, 'addr', 'add', '10.77.0.2/24', 'dev', 'laptop'),
    ...[ROBOT, LAPTOP].flatMap((name) => [
      ip('-n', name, 'link', 'set', 'lo', 'up'),
      ip('-n', name, 'link', 'set', name === ROBOT ? 'robot' : 'laptop', 'up'),
    ]),
  ].every(Boolean)
}
const able = wire()

const isDown = (name: string): boolean =>
  /LOWERLAYERDOWN|NO-CARRIER|state DOWN/.test(
    spawnSync('ip', ['-n', name, 'link', 'show'], { encoding: 'utf8' }).stdout,
  )

let laptop: Laptop
let home = ''
let id = ''
let robot: ChildProcess | undefined
const others: ChildProcess[] = []

/** The command line in the laptop's namespace, which may search the network. */
async function medulla(...args: string[]): Promise<Ended> {
  const command = within(LAPTOP, process.execPath, CLI, ...args)
  const env = { ...process.env, HOME: laptop.dir, MEDULLA_CONFIG: join(laptop.dir, 'config'), NO_COLOR: '1' }
  const child = spawn('ip', command, { cwd: laptop.dir, env, stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    ended.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    ended.stderr += text
  })
  const [status] = (await once(child, 'close')) as [number | null]
  return { status, ...ended }
}

async function events(...args: string[]): Promise<Record<string, unknown>[]> {
  const { status, stdout, stderr } = await medulla('--json', ...args)
  expect(status, stderr).toBe(0)
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

async function startRobot(port: number): Promise<void> {
  const args = [RUNTIME, '--home', home, '--sim', '--host', '0.0.0.0', '--port', String(port)]
  robot = spawn('ip', within(ROBOT, process.execPath, ...args), { stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = (await once(robot.stdout as NodeJS.ReadableStream, 'data')) as [Buffer]
  expect(JSON.parse(line.toString())).toMatchObject({ event: 'listening', port })
}

async function stopRobot(): Promise<void> {
  if (robot === undefined || robot.exitCode !== null) return
  robot.kill('SIGTERM')
  await once(robot, 'exit')
}

/** A process on the wire, in the robot's namespace or the laptop's. */
async function liar(namespace: string, ...args: string[]): Promise<ChildProcess> {
  const child = spawn('ip', within(namespace, process.execPath, LIAR, ...args), {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  others.push(child)
  await once(child.stdout as NodeJS.ReadableStream, 'data')
  return child
}

const stored = (): { address: string } =>
  JSON.parse(readFileSync(join(laptop.dir, 'config/robots.json'), 'utf8')).robots.arm

beforeAll(async () => {
  if (!able) return
  // the kernel reports a new link up to a second late, and until then there is no interface to ask on
  for (const name of [ROBOT, LAPTOP]) await eventually(() => !isDown(name))
  laptop = new Laptop()
  home = join(laptop.dir, 'robot')
  mkdirSync(home, { mode: 0o700 })
  writeFileSync(join(home, 'board.json'), boardText())
  const made = await run(RUNTIME, ['card', '--home', home, '--name', 'arm'])
  expect(made.status, made.stdout).toBe(0)
  await laptop.run('keygen')
  const card = join(laptop.dir, 'me.json')
  writeFileSync(card, (await laptop.run('trust', '--export')).stdout)
  const trusted = await run(RUNTIME, ['trust', '--home', home, '--card', card, '--role', 'owner'])
  expect(trusted.status, trusted.stdout).toBe(0)
  await startRobot(7171)
}, 120_000 * SCALE)

afterAll(async () => {
  if (able) {
    for (const child of others) child.kill('SIGKILL')
    await stopRobot()
    await laptop.close()
  }
  for (const name of [ROBOT, LAPTOP]) ip('netns', 'del', name)
})

test('CHANNEL 11.3: a robot that listens on the loopback address is not announced', () => {
  for (const host of ['127.0.0.1', 'localhost', '::1']) expect(Announcer.open(null, false, host)).toBe(null)
  // nor one under systemd that got no socket for it
  expect(Announcer.open(null, true, '0.0.0.0')).toBe(null)
})

test.runIf(able)(
  'CHANNEL 11.1, 11.2: robots lists a robot of the network that it does not know, then model, version and programs of one that it knows, in 2 s',
  SLOW,
  async () => {
    const found = (await events('robots')).filter(({ event }) => event === 'found')
    expect(found).toEqual([
      { event: 'found', name: 'arm', id: expect.any(String), version: expect.any(String), address: `${FIRST}:7171` },
    ])
    id = found[0]?.id as string
    const unknown = await medulla('robots')
    expect(unknown.stdout).toContain(`not known: ${id}`)
    expect(unknown.stderr).toContain(`medulla pair ${FIRST}:7171 makes arm known`)
    expect(await medulla('trust', 'arm', FIRST, '--card', join(home, 'robot.json'))).toMatchObject({ status: 0 })
    const began = performance.now()
    await medulla('--version')
    const start = performance.now() - began
    const known = await events('robots')
    // what the start of a command takes is taken from the same run
    expect(performance.now() - began - 2 * start).toBeLessThan(2000 * SCALE)
    expect(known).toEqual([
      { event: 'robot', name: 'arm', address: `${FIRST}:7171`, model: 'sim', version: expect.any(String), slots: [] },
    ])
    expect(await medulla('use', 'arm')).toMatchObject({ status: 0 })
  },
)

test.runIf(able)(
  'CHANNEL 11.4, HANDOVER 8.24: 1,000 questions among 2,000 packets of rubbish get one answer a second, always the same; sessions go on',
  SLOW,
  async () => {
    const child = await liar(LAPTOP, '10.77.0.2', id, 'flood')
    const [told] = await Promise.all([
      once(child.stdout as NodeJS.ReadableStream, 'data').then(([data]) => JSON.parse(String(data))),
      medulla('status').then(({ status }) => expect(status).toBe(0)),
    ])
    const { ms, answers } = told as { ms: number; answers: { from: string; port: number; ms: number; bytes: string }[] }
    const first = answers.filter(({ from }) => from === FIRST)
    expect(first.length).toBeGreaterThan(0)
    expect(first.length).toBeLessThanOrEqual(ms / 1000 + 1)
    expect(new Set(first.map(({ port, bytes }) => `${port} ${bytes}`)).size).toBe(1)
    const times = first.map((each) => each.ms)
    // a packet may wait for its reader: the sum of the times tells
    expect((times.at(-1) ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(1000 * (times.length - 1) - 500)
  },
)

test.runIf(able)(
  'CHANNEL 11.6, 11.7: a liar changes no address, writes nothing to the terminal, and hides no robot that is known',
  SLOW,
  async () => {
    ip('-n', ROBOT, 'addr', 'add', '10.77.0.66/24', 'dev', 'robot')
    await liar(ROBOT, '10.77.0.66', id)
    const { status, stdout, stderr } = await medulla('robots')
    expect(status, stderr).toBe(0)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not be there
    expect(stdout + stderr).not.toMatch(/[\x00-\x09\x0b-\x1f]|title|^medulla: error/m)
    expect(stdout).toMatch(/^\* {2}arm +10\.77\.0\.1:7171 +sim +\S+ +yes +nothing$/m)
    const lies = (await events('robots')).filter(({ event }) => event === 'found')
    expect(lies.length).toBeGreaterThan(0)
    expect(lies.length).toBeLessThanOrEqual(64)
    // the address of the liar, never one of its records
    for (const { address, name } of lies)
      expect([name, address]).toEqual([expect.stringMatching(/^false-\d+$/), '10.77.0.66:7171'])
    expect(stored().address).toBe(`${FIRST}:7171`)
  },
)

test.runIf(able)(
  'CHANNEL 11.7, 11.8: a robot with another address and port is found by its keys, and not looked for at an address that was given',
  SLOW,
  async () => {
    await stopRobot()
    const gone = await medulla('status')
    expect(gone).toMatchObject({ status: 5, stdout: '' })
    expect(gone.stderr).toContain('it does not answer multicast DNS either')
    expect(gone.stderr).toContain('-d HOST[:PORT]')
    ip('-n', ROBOT, 'addr', 'del', `${FIRST}/24`, 'dev', 'robot')
    ip('-n', ROBOT, 'addr', 'add', '10.77.0.9/24', 'dev', 'robot')
    await startRobot(7272)
    const direct = await medulla('status', '-d', FIRST)
    expect(direct.status).not.toBe(0)
    expect(stored().address).toBe(`${FIRST}:7171`)
    const found = await eventually(async () => {
      const ended = await medulla('status')
      return ended.status === 0 && ended
    })
    expect(found.stderr).toMatch(/^arm has moved from 10\.77\.0\.1:7171 to 10\.77\.0\.(?:9|66):7272$/m)
    expect(found.stdout).toContain(id)
    expect(stored().address).toMatch(/^10\.77\.0\.(?:9|66):7272$/)
    // by its address alone, too
    expect((await medulla('status', '-d', '10.77.0.9:7272')).stdout).toContain(id)
  },
)
