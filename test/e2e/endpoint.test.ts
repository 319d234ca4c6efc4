/** What the endpoint of a whole robot may do, as the kernel shows it, and what a compromised endpoint cannot do. */

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { greet } from '../../deploy/laptop/client.ts'
import { canConfine } from '../../runtime/body/sandbox/confinement.ts'
import { FIRST_UID, UID_COUNT } from '../../runtime/body/sandbox/uids.ts'
import { bundle } from '../runtime/body/sandbox/cage.ts'
import { eventually } from './eventually.ts'
import { LOADER, RUNTIME } from './programs.ts'
import { boardText, childrenOf, run, TestRobot } from './robot.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const boxes = (['namespaces', 'bwrap'] as const).filter((sandbox) => canConfine(sandbox, LOADER).ok)

let robot: TestRobot | undefined
afterEach(async () => {
  await robot?.close()
  robot = undefined
})

const statusOf = (pid: number): string => readFileSync(`/proc/${pid}/status`, 'utf8')
const field = (status: string, name: string): string | undefined =>
  new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1]?.trim()

function expectNoPrivileges(status: string, uid: number | null): void {
  if (uid !== null) {
    for (const name of ['Uid', 'Gid']) expect(field(status, name)).toBe(Array(4).fill(uid).join('\t'))
    expect(field(status, 'Groups')).toBe('')
    for (const name of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
      expect([name, field(status, name)]).toEqual([name, '0'.repeat(16)])
  }
  expect([field(status, 'NoNewPrivs'), field(status, 'Seccomp')]).toEqual(['1', '2'])
}

/** A copy of the built runtime, with test/e2e/children/takenendpoint.ts in the place of its endpoint. */
const folder = mkdtempSync(join(tmpdir(), 'medulla-taken-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function hostileRuntime(): string {
  const installation = join(folder, 'installation')
  rmSync(installation, { recursive: true, force: true })
  mkdirSync(installation)
  cpSync(join(ROOT, 'package.json'), join(installation, 'package.json'))
  symlinkSync(join(ROOT, 'node_modules'), join(installation, 'node_modules'))
  for (const part of ['runtime', 'deploy', 'drivers'])
    cpSync(join(ROOT, 'dist', part), join(installation, 'dist', part), { recursive: true })
  const endpoint = join(installation, 'dist/runtime/endpoint')
  renameSync(bundle(join(ROOT, 'test/e2e/children/takenendpoint.ts'), installation), join(endpoint, 'main.js'))
  return join(installation, 'dist/runtime/main.js')
}

interface Taken {
  /** `config` without the keys */
  told: Record<string, unknown>
  keys: string[]
  environment: string[]
  argv: string[]
  status: string
  processes: string[]
  root: string[]
  tried: Record<string, string>
  /** the body's refusal code for a push of rubbish */
  rubbish: string
}

/** The report of a compromised endpoint on a robot that runs a program. */
async function taken(sandbox?: string): Promise<Taken> {
  const one = await TestRobot.start({}, {}, sandbox === undefined ? {} : { sandbox })
  robot = one
  await one.commit('counter')
  await one.end()
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  one.stderr = ''
  one.runtime = hostileRuntime()
  try {
    await one.begin({ wait: false })
    const programPid = await eventually(() => one.programPid)
    const { port } = other.address() as AddressInfo
    const file = join(one.runtime, '../endpoint/targets.json')
    writeFileSync(`${file}.new`, JSON.stringify({ home: one.home, programPid, bodyPid: one.pid, port }))
    renameSync(`${file}.new`, file)
    return await eventually(() => {
      const line = one.stderr.split('\n').find((text) => text.startsWith('{"taken"'))
      return line !== undefined && (JSON.parse(line) as { taken: Taken }).taken
    })
  } finally {
    other.close()
  }
}

/** Calls that the seccomp filter refuses to the endpoint, whatever its user. */
const FILTERED = {
  ...{ ptrace: 'EPERM', readv: 'EPERM', killBody: 'EPERM', killProgram: 'EPERM', killAll: 'EPERM' },
  ...{ namespace: 'EPERM', chroot: 'EPERM', mount: 'EPERM', bpf: 'EPERM', keys: 'EPERM', module: 'EPERM' },
  ...{ spawn: 'EPERM', connect: 'EPERM', listen: 'EPERM' },
}

describe.skipIf(boxes.length === 0)('as root', () => {
  test('HANDOVER 8.13, 8.14: the endpoint has its own user, no capabilities, a filter and limits; status says so', async () => {
    robot = await TestRobot.start()
    const pid = robot.endpoint()
    const { endpoint } = await robot.client.status()
    expect(endpoint).toEqual({ user: expect.any(Number), sandbox: 'namespaces', seccomp: true })
    const uid = endpoint?.user ?? 0
    expect(uid).toBeGreaterThanOrEqual(FIRST_UID)
    expect(uid).toBeLessThan(FIRST_UID + UID_COUNT)
    expectNoPrivileges(statusOf(pid), uid)
    for (const name of ['mnt', 'ipc', 'uts'])
      expect([name, readlinkSync(`/proc/${pid}/ns/${name}`)]).not.toEqual([name, readlinkSync(`/proc/self/ns/${name}`)])
    expect(readlinkSync(`/proc/${pid}/ns/net`)).toBe(readlinkSync('/proc/self/ns/net'))
    const limits = readFileSync(`/proc/${pid}/limits`, 'utf8')
    expect(limits).toMatch(/^Max core file size +0 +0 /m)
    expect(limits).toMatch(/^Max open files +4096 +4096 /m)
    expect(limits).toMatch(/^Max processes +64 +64 /m)
    // dash, and bash
    expect(limits).toMatch(/^Max file size +(?:33554432|67108864) +/m)
    // not dumpable: the endpoint's files in /proc belong to root
    expect(statSync(`/proc/${pid}/mem`).uid).toBe(0)
    expect(readFileSync(`/proc/${pid}/environ`, 'utf8')).not.toMatch(/AGE-SECRET|[0-9a-f]{64}/)
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).not.toContain(robot.home)
  })

  test('HANDOVER 8.3, 8.15: after SIGKILL a new endpoint serves the same port, as another user', async () => {
    robot = await TestRobot.start()
    const [pid, before] = [robot.endpoint(), (await robot.client.status()).endpoint]
    process.kill(pid, 'SIGKILL')
    await robot.reconnect()
    const { endpoint } = await robot.client.status()
    expect(robot.endpoint()).not.toBe(pid)
    expect(endpoint?.user).not.toBe(before?.user)
    expectNoPrivileges(statusOf(robot.endpoint()), endpoint?.user ?? 0)
    await robot.commit('counter')
    expect(robot.staged).toEqual([])
  })

  test('HANDOVER 8.17: the endpoint ends with the body, also after SIGKILL', async () => {
    robot = await TestRobot.start()
    const pid = robot.endpoint()
    await robot.end('SIGKILL')
    await eventually(() => !existsSync(`/proc/${pid}`))
  })

  test.each(boxes)(
    'HANDOVER 8.13 to 8.15, 8.17: one that was taken over reads no secret, signals nobody and gains nothing, in %s',
    async (sandbox) => {
      const found = await taken(sandbox)
      const one = robot as TestRobot
      expect(Object.values(found.tried)).not.toContain('done')
      expect(found.tried).toMatchObject({
        ...FILTERED,
        ...{
          identity: 'ENOENT',
          noise: 'ENOENT',
          age: 'ENOENT',
          operators: 'ENOENT',
          store: 'ENOENT',
          slots: 'ENOENT',
        },
        ...{
          writeHome: 'ENOENT',
          writeRuntime: 'EROFS',
          memory: 'ENOENT',
          gpio: 'ENOENT',
          i2c: 'ENOENT',
          device: 'EPERM',
        },
        ...{ staged: 'EACCES', setuid: 'EPERM', setgroups: 'EPERM' },
      })
      expectNoPrivileges(found.status, Number(field(found.status, 'Uid')?.split('\t')[0]))
      // in /proc it sees only itself, and under bwrap also bwrap's first process
      expect(found.processes.length).toBeLessThanOrEqual(2)
      for (const name of ['dev', 'etc', 'home', 'root', 'sys', 'var']) expect(found.root).not.toContain(name)

      expect(found.told).toEqual({
        ...{ op: 'config', name: one.identity.name, robot: one.identity.id, version: expect.any(String) },
        confine: { user: expect.any(Number), seccomp: true },
        card: one.card,
      })
      expect(found.rubbish).toBe('bad-bundle')
      expect(found.keys).toEqual(['age', 'noise'])
      expect(found.argv).toEqual([])
      expect(JSON.stringify(found)).not.toContain(one.ageSecret)
      expect(one.stderr).toContain('"msg":"\\u001b[2Jnot JSON"')
      expect(one.stderr).not.toContain('\x1b')
      // the program, which the endpoint could not reach, still runs
      expect(existsSync(`/proc/${one.programPid}`)).toBe(true)
    },
  )

  test('HANDOVER 8.13: with --sandbox none the endpoint runs as root, under its filter', async () => {
    const found = await taken('none')
    // the counter-check: without a sandbox the endpoint can read the home
    expect(found.tried).toMatchObject({ ...FILTERED, identity: 'done', noise: 'done', store: 'done' })
    expectNoPrivileges(found.status, null)
  })
})

test('HANDOVER 8.15: a start with a port in use is refused; a new endpoint waits for a port taken meanwhile', async () => {
  robot = await TestRobot.start()
  const second = await run(RUNTIME, ['--home', join(robot.folder, 'other'), '--port', String(robot.port), '--sim', '--board', join(robot.home, 'board.json')]) // biome-ignore format: one call
  expect(second.status).toBe(3)
  expect(JSON.parse(second.stdout)).toMatchObject({ event: 'error', error: { code: 'port-in-use' } })

  const { port } = robot
  const other = await eventually(() => {
    const found = robot?.children().find(({ command }) => command.includes('endpoint/main.js'))
    if (found !== undefined) process.kill(found.pid, 'SIGKILL')
    return listenAt(port)
  })
  await eventually(() => robot?.stderr.includes('the endpoint was not started: listen EADDRINUSE'))
  other.close()
  await robot.reconnect()
})

test('HANDOVER 8.3, 8.14: without root the endpoint has no_new_privs and its filter, and its death ends no program', async () => {
  const home = mkdtempSync(join(tmpdir(), 'medulla-user-'))
  const user = 65534
  const main = [process.execPath, RUNTIME, '--home', home, '--sim', '--port', '0']
  const asUser = ['setpriv', `--reuid=${user}`, `--regid=${user}`, '--clear-groups', ...main]
  const isRoot = process.getuid?.() === 0
  const [command = '', ...args] = isRoot ? asUser : main
  writeFileSync(join(home, 'board.json'), boardText(), { mode: 0o644 })
  if (isRoot) chownSync(home, user, user)
  const body = spawn(command, args, { cwd: home, stdio: ['ignore', 'pipe', 'inherit'] })
  try {
    const [said] = (await once(body.stdout, 'data')) as [Buffer]
    const { event, port } = JSON.parse(String(said)) as { event: string; port: number }
    expect(event).toBe('listening')
    const endpoint = () => childrenOf(body.pid ?? 0).find((one) => one.command.includes('endpoint/main.js'))?.pid ?? 0
    const pid = endpoint()
    const status = statusOf(pid)
    expectNoPrivileges(status, null)
    if (isRoot) expect(field(status, 'Uid')?.split('\t')[0]).toBe(String(user))
    // not dumpable
    expect(statSync(`/proc/${pid}/mem`).uid).toBe(0)
    // the reader of the runtime's stderr ends, as with `medulla sim --keep`
    body.stdout.destroy()
    process.kill(pid, 'SIGKILL')
    await eventually(() => ![0, pid].includes(endpoint()))
    expect(await eventually(() => greet('127.0.0.1', port).catch(() => null))).toMatchObject({ version: '0.1.0' })
    body.kill('SIGTERM')
    expect(await once(body, 'exit')).toEqual([0, null])
  } finally {
    body.kill('SIGKILL')
    rmSync(home, { recursive: true })
  }
})

async function listenAt(port: number): Promise<Server | null> {
  const server = createServer().listen(port, '127.0.0.1')
  try {
    await once(server, 'listening')
    return server
  } catch {
    return null
  }
}
