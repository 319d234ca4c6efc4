/** A whole robot with confined programs: what a program can reach, and what the robot reports. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { canConfine } from '../../runtime/body/sandbox/confinement.ts'
import { FIRST_UID } from '../../runtime/body/sandbox/uids.ts'
import { Asking } from './asking.ts'
import { eventually } from './eventually.ts'
import { LOADER } from './programs.ts'
import { TestRobot } from './robot.ts'

const boxes = (['namespaces', 'bwrap'] as const).filter((sandbox) => canConfine(sandbox, LOADER).ok)

describe.skipIf(boxes.length === 0).each(boxes)('in %s (needs root)', (sandbox) => {
  let robot: TestRobot
  afterAll(async () => robot?.close())

  async function told(version: string): Promise<Record<string, unknown>> {
    return eventually(async () => {
      const lines = (await robot.logs()).filter(({ text }) => text.includes('"uid"'))
      return lines.length === (version === '1.0.0' ? 1 : 2) && JSON.parse(lines.at(-1)?.text ?? '')
    })
  }

  test('a program can reach only its handles, and status says so (HANDLES 13.1 to 13.5, 13.11)', async () => {
    robot = await TestRobot.start({}, {}, { sandbox })
    const { confined } = await robot.commit('looks-around')
    expect(confined).toBe(true)
    expect(await robot.client.status()).toMatchObject({ confined: true })
    const seen = await told('1.0.0')
    const { pid } = await robot.running()
    // Node's permission model refuses before the kernel does
    const denied = sandbox === 'bwrap' ? 'ERR_ACCESS_DENIED' : undefined
    expect(seen).toEqual({
      uid: expect.any(Number),
      // under bwrap the pid is that of the program's own namespace
      pid: sandbox === 'bwrap' ? expect.any(Number) : pid,
      cwd: '/tmp',
      root: seen.root === denied ? denied : expect.arrayContaining(['proc', 'run', 'tmp', 'usr']),
      body: 'EPERM',
      init: 'EPERM',
      setuid: 'EPERM',
      handle: denied ?? 'EACCES',
      program: denied ?? 'EROFS',
      tmp: 'written',
      network: 'EPERM',
    })
    // newer kernels do not list the file at all
    if (seen.root !== 'ERR_ACCESS_DENIED')
      for (const name of ['boot', 'dev', 'etc', 'home', 'root', 'sys', 'var']) expect(seen.root).not.toContain(name)
    expect(seen.uid).toBeGreaterThanOrEqual(FIRST_UID)

    await robot.commit('looks-around', { version: '1.1.0' })
    expect((await told('1.1.0')).uid).not.toBe(seen.uid)
    robot.receipts()
  })

  test('HANDOVER 12.2, 3.7: a spare child is confined before it gets a program, and stays so after', {
    tags: ['slow'],
  }, async () => {
    const asking = new Asking(robot)
    const spare = await asking.ready()
    const status = readFileSync(`/proc/${spare}/status`, 'utf8')
    // under bwrap the visible process is bwrap's own
    if (sandbox === 'namespaces') {
      expect(Number(/^Uid:\s+(\d+)/m.exec(status)?.[1])).toBeGreaterThanOrEqual(FIRST_UID)
      expect(status).toMatch(/^CapEff:\s+0{16}$/m)
      expect(status).toMatch(/^NoNewPrivs:\s+1$/m)
      expect(status).toMatch(/^Seccomp:\s+2$/m)
    }
    expect((await robot.commit('looks-around', { version: '1.2.0' })).confined).toBe(true)
    expect((await robot.running()).pid).toBe(spare)
    const [before, after] = await eventually(async () => {
      const lines = (await robot.logs()).filter(({ text }) => text.includes('"uid"'))
      return lines.length === 3 && lines.slice(1).map(({ text }) => JSON.parse(text) as Record<string, unknown>)
    })
    expect(after).toEqual({ ...before, uid: after?.uid, pid: after?.pid })
    expect(after?.uid).not.toBe(before?.uid)
    await asking.end()
  })

  // under bwrap a program cannot start processes (HANDLES 13.13)
  test.skipIf(sandbox === 'bwrap')(
    'what it forks ends with it, also a daemon that left everything behind (HANDLES 10.3, 10.4)',
    async () => {
      await robot.commit('forks', { version: '2.0.0' })
      const before = await robot.running()
      const procs = join(groupOf(before.pid), 'cgroup.procs')
      const members = () => readFileSync(procs, 'utf8').split('\n').filter(Boolean).map(Number)
      // RLIMIT_NPROC counts threads, and each Node process has about eleven
      const forked = await eventually(() => members().length > 1 && members())
      process.kill(before.pid, 'SIGKILL')
      await robot.running(before.pid)
      await eventually(() => forked.every(gone))
    },
  )

  test('a confined program ends with the body, also after SIGKILL (HANDLES 13.3)', async () => {
    const { pid } = await robot.running()
    await robot.end('SIGKILL')
    await eventually(() => gone(pid))
    await robot.begin()
    await robot.running(pid)
  })
})

/** Folder of a process's group in cgroup v2, wherever that is mounted. */
function groupOf(pid: number): string {
  const [, path = ''] = /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8')) ?? []
  const mount = readFileSync('/proc/self/mounts', 'utf8').split('\n').find((line) => line.includes(' cgroup2 ')) // biome-ignore format: one call
  return join(mount?.split(' ')[1] ?? '/sys/fs/cgroup', path)
}

function gone(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.startsWith('Z') === true
  } catch {
    return true
  }
}
