/** The runtime as a service of systemd: the built runtime, with a real datagram socket in the place of systemd's. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, expect, onTestFinished, test } from 'vitest'
import { greet } from '../../deploy/laptop/client.ts'
import { canConfine } from '../../runtime/body/sandbox/confinement.ts'
import { eventually, SCALE } from './eventually.ts'
import { ServiceManager } from './manager.ts'
import { LOADER, RUNTIME } from './programs.ts'
import { boardText, childrenOf, TestRobot } from './robot.ts'

const PRELOAD = fileURLToPath(new URL('children/service.mjs', import.meta.url))
const ENDPOINT = fileURLToPath(new URL('children/endpoint.mjs', import.meta.url))
const SLOW = { tags: ['slow'] }
const WATCHDOG_MS = 3000 * SCALE

/** Sets the environment of the runtimes that are started from now on, until the test ends. */
function environment(values: Record<string, string>): void {
  Object.assign(process.env, values)
}
afterEach(() => {
  for (const name of Object.keys(process.env)) {
    if (/^(?:NOTIFY_SOCKET|WATCHDOG_|MEDULLA_TEST_|JOURNAL_STREAM)/.test(name)) delete process.env[name]
  }
})

function folderOf(): string {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-service-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** The manager of the runtimes that are started from now on. */
function managed(more: Record<string, string> = {}): ServiceManager {
  const manager = new ServiceManager(folderOf())
  environment({ NOTIFY_SOCKET: manager.path, WATCHDOG_USEC: String(WATCHDOG_MS * 1000), ...more })
  return manager
}

async function robotOf(setup: Parameters<typeof TestRobot.start>[2] = {}): Promise<TestRobot> {
  const robot = await TestRobot.start({ restartMostMs: 100 }, {}, setup)
  onTestFinished(() => robot.close())
  return robot
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** Expects at least one WATCHDOG=1 for each WATCHDOG_USEC that `work` takes; HANDOVER 16.4 has three. */
async function expectFed(manager: ServiceManager, work: () => Promise<unknown>): Promise<void> {
  const [began, before] = [performance.now(), manager.count('WATCHDOG')]
  await work()
  const fed = manager.count('WATCHDOG') - before
  expect(fed).toBeGreaterThanOrEqual(Math.floor((performance.now() - began) / WATCHDOG_MS))
}

test('HANDOVER 16.2: a robot without programs is ready once it listens, and says so', SLOW, async () => {
  const manager = managed()
  const robot = await robotOf()
  await eventually(() => manager.first('READY'))
  expect(manager.status).toBe('no program yet')
  const order = manager.messages.map(({ fields }) => fields)
  expect(order.findIndex((fields) => 'EXTEND_TIMEOUT_USEC' in fields)).toBe(0)
  expect(order.findIndex((fields) => 'READY' in fields)).toBeGreaterThan(0)
  await robot.commit('counter')
  await eventually(() => manager.status === 'main: counter 1.0.0 running')
  expect(manager.count('READY')).toBe(1)
})

test('HANDOVER 16.2: READY comes when the program of each slot runs, and not while one loads', SLOW, async () => {
  const robot = await robotOf()
  await robot.commit('arm-writer', { to: 'arm' })
  await robot.commit('slow-import', { program: 'slow' })
  await robot.end()
  const manager = managed()
  await robot.begin()
  const ready = await eventually(() => manager.first('READY'))
  const status = await robot.client.status()
  expect(status.slots.map(({ state }) => state)).toEqual(['running', 'running'])
  // the line is that of the same instant
  expect(ready.fields.STATUS).toBe('arm: arm-writer 1.0.0 running; main: slow 1.0.0 running')
  for (const { fields } of manager.messages.filter(({ at }) => at < ready.at)) expect(fields.READY).toBeUndefined()
})

test(
  'HANDOVER 16.2: a slot whose program cannot run, or crashes at each start, does not keep the robot from READY',
  SLOW,
  async () => {
    const robot = await robotOf()
    await robot.commit('counter')
    await robot.end()
    rmSync(join(robot.home, 'store'), { recursive: true })
    const manager = managed()
    await robot.begin()
    await eventually(() => manager.first('READY'))
    expect(manager.status).toBe('main: waiting')
  },
)

test('HANDOVER 16.3: STOPPING=1 comes at SIGTERM, before the programs are stopped', SLOW, async () => {
  const manager = managed()
  const robot = await robotOf()
  await robot.commit('counter')
  await eventually(() => manager.first('READY'))
  await robot.end()
  expect(manager.first('STOPPING')?.fields.STATUS).toBe('stopping the programs, driving the safe levels')
})

test(
  'HANDOVER 16.4: a body whose event loop turns feeds the watchdog in time, one whose loop blocks does not',
  SLOW,
  async () => {
    const blocked = join(folderOf(), 'blocked')
    const manager = managed({ MEDULLA_TEST_BLOCKED: blocked })
    const robot = await robotOf({ preload: PRELOAD })
    await eventually(() => manager.first('READY'))
    await expectFed(manager, () => pause(2 * WATCHDOG_MS))
    writeFileSync(blocked, '')
    process.kill(robot.pid, 'SIGUSR2')
    await eventually(() => robot.stderr.includes('the event loop is blocked'))
    const before = manager.count('WATCHDOG')
    await pause(WATCHDOG_MS)
    expect(manager.count('WATCHDOG')).toBe(before)
    rmSync(blocked)
    await eventually(() => manager.count('WATCHDOG') > before)
  },
)

test(
  'HANDOVER 16.5: an endpoint that is stopped is replaced, its program runs on, and the watchdog is fed all the time',
  SLOW,
  async () => {
    const manager = managed()
    const robot = await robotOf()
    await robot.commit('counter')
    const { pid } = await robot.running()
    const stopped = robot.endpoint()
    process.kill(stopped, 'SIGSTOP')
    const isReplaced = () =>
      robot.children().some(({ command }) => command.includes('endpoint/main.js')) && robot.endpoint() !== stopped
    await expectFed(manager, () =>
      // the queue of a datagram socket is short (net.unix.max_dgram_qlen, 10 by default): messages are read all the time
      eventually(() => manager.messages.length > 0 && isReplaced(), 120_000 * SCALE),
    )
    await robot.reconnect()
    expect((await robot.slot()).pid).toBe(pid)
    expect(robot.stderr).toContain('endpoint ended: it gave no answer for')
    expect(robot.stderr).not.toContain('the watchdog is not fed')
  },
)

test('HANDOVER 16.1: the variables of systemd reach no child of the body', SLOW, async () => {
  managed()
  const robot = await robotOf()
  await robot.commit('counter')
  const lasting = robot.children().filter(({ command }) => /endpoint\/main|loader/.test(command))
  expect(lasting.length).toBeGreaterThanOrEqual(2)
  for (const { pid } of lasting) {
    const names = readFileSync(`/proc/${pid}/environ`, 'utf8')
      .split('\0')
      .map((pair) => pair.split('=')[0])
    expect(names.filter((name) => /^(?:NOTIFY_SOCKET|WATCHDOG|LISTEN)/.test(name ?? ''))).toEqual([])
  }
})

test(
  'HANDOVER 16.1: under a service manager and without koffi the runtime says what is missing and ends',
  SLOW,
  async () => {
    managed({ MEDULLA_TEST_NO_KOFFI: '1' })
    const folder = folderOf()
    const child = spawn(process.execPath, ['--import', PRELOAD, RUNTIME, '--home', join(folder, 'home'), '--sim', '--port', '0'], { stdio: ['ignore', 'pipe', 'ignore'] }) // biome-ignore format: one call
    let said = ''
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    const [status] = (await once(child, 'close')) as [number]
    expect(status).toBe(3)
    expect(JSON.parse(said)).toMatchObject({
      error: { code: 'bad-device', message: expect.stringContaining('koffi cannot be loaded'), hint: 'medulla doctor' },
    })
  },
)

/** The inode of the socket that listens on this port; proc_net(5). */
function inodeOf(port: number): string {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const lines = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
  return lines.find((fields) => fields[1]?.endsWith(local) && fields[3] === '0A')?.[9] ?? ''
}

const holds = (pid: number, inode: string): boolean =>
  readdirSync(`/proc/${pid}/fd`).some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`)

/** Starts the runtime as systemd does: LISTEN_PID is its own pid, and descriptor 3 the socket. */
function activated(home: string, socket: number) {
  const script = 'export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" "$@"'
  const args = ['-c', script, process.execPath, RUNTIME, '--home', home, '--sim', '--port', '1']
  const child = spawn('sh', args, { stdio: ['ignore', 'pipe', 'pipe', socket] })
  onTestFinished(async () => {
    if (child.exitCode === null && child.kill('SIGTERM')) await once(child, 'exit')
  })
  return child
}

test(
  'HANDOVER 16.6: the endpoint serves the socket that systemd listens on, which no other child has, and its successor serves it again',
  SLOW,
  async () => {
    const home = join(folderOf(), 'home')
    mkdirSync(home, { mode: 0o700 })
    writeFileSync(join(home, 'board.json'), boardText())
    const server = createServer()
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    onTestFinished(() => void server.close())
    const { port } = server.address() as AddressInfo
    const child = activated(home, (server as unknown as { _handle: { fd: number } })._handle.fd)
    // this process must not accept what is meant for the robot
    server.unref()
    const [line] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer]
    expect(JSON.parse(line.toString())).toMatchObject({ event: 'listening', port })
    const endpoint = () =>
      childrenOf(child.pid as number).find(({ command }) => command.includes('endpoint/main.js'))?.pid
    const first = await eventually(endpoint)
    const inode = inodeOf(port)
    expect(holds(first, inode)).toBe(true)
    expect(childrenOf(child.pid as number).filter(({ pid }) => pid !== first && holds(pid, inode))).toEqual([])
    process.kill(first, 'SIGKILL')
    await eventually(() => ![undefined, first].includes(endpoint()))
    server.close()
    expect(await eventually(() => greet('127.0.0.1', port).catch(() => null))).toMatchObject({ name: 'robot' })
  },
)

test(
  'HANDOVER 16.7: in the journal each line of body, endpoint and main has a priority; a pipe gets plain JSON',
  SLOW,
  async () => {
    const folder = folderOf()
    const home = join(folder, 'home')
    mkdirSync(home, { mode: 0o700 })
    writeFileSync(join(home, 'board.json'), boardText())
    const journal = join(folder, 'journal')
    const fd = openSync(journal, 'w')
    const { dev, ino } = statSync(journal)
    const args = [RUNTIME, '--home', home, '--sim', '--port', '0']
    const env = { ...process.env, JOURNAL_STREAM: `${dev}:${ino}` }
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', fd], env })
    const [line] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer]
    expect(JSON.parse(line.toString())).toMatchObject({ event: 'listening' })
    process.kill(
      childrenOf(child.pid as number).find(({ command }) => command.includes('endpoint/main.js'))?.pid ?? 0,
      'SIGKILL',
    )
    await eventually(() => readFileSync(journal, 'utf8').includes('starting a new one'))
    child.kill('SIGTERM')
    await once(child, 'exit')
    const lines = readFileSync(journal, 'utf8').trim().split('\n')
    for (const each of lines) expect(each).toMatch(/^<[3467]>\{/)
    expect(lines.find((each) => each.includes('starting a new one'))).toMatch(/^<4>\{"level":40,.*"name":"body"/)
    expect(lines.find((each) => each.includes('"name":"endpoint"'))).toMatch(/^<6>/)
    // what keeps it from starting is an error of its own
    writeFileSync(join(home, 'board.json'), '{')
    const out = openSync(join(folder, 'both'), 'w')
    const both = statSync(join(folder, 'both'))
    const refused = spawn(process.execPath, args, { stdio: ['ignore', out, out], env: { ...env, JOURNAL_STREAM: `${both.dev}:${both.ino}` } }) // biome-ignore format: one call
    await once(refused, 'exit')
    expect(readFileSync(join(folder, 'both'), 'utf8')).toMatch(/^<3>\{"event":"error","error":\{"code":"bad-board"/)
  },
)

test.runIf(canConfine('namespaces', LOADER).ok)(
  'HANDOVER 8.13: endpoint and programs are confined and work under the umask of the service, 077',
  SLOW,
  async () => {
    const before = process.umask(0o077)
    onTestFinished(() => void process.umask(before))
    const robot = await robotOf({ sandbox: 'namespaces' })
    await robot.commit('counter')
    const { confined, endpoint } = await robot.client.status()
    expect([confined, endpoint?.sandbox]).toEqual([true, 'namespaces'])
  },
)

test(
  'HANDOVER 16.2: a robot whose endpoint cannot start is ready when its programs run, and says what is missing',
  SLOW,
  async () => {
    const robot = await robotOf({ preload: ENDPOINT })
    await robot.commit('counter')
    await robot.end()
    // in the place of the endpoint comes a process that sends this line
    robot.fault('EIO')
    const manager = managed()
    await robot.begin({ wait: false })
    await eventually(() => manager.first('READY'))
    await eventually(() => manager.status === 'no endpoint; main: counter 1.0.0 running')
    robot.fault(null)
    await eventually(() => manager.status === 'main: counter 1.0.0 running')
  },
)
