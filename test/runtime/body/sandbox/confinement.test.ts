/** Confined children as the kernel shows them: the real chain of commands, the real loader, programs that probe their limits. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { afterAll, describe, expect, it, onTestFinished } from 'vitest'
import { loadSystem } from '../../../../drivers/owner/linux/system.ts'
import { canConfine } from '../../../../runtime/body/sandbox/confinement.ts'
import { DATA_GROUP } from '../../../../runtime/body/sandbox/datafolder.ts'
import { FIRST_UID, UID_COUNT, Uids } from '../../../../runtime/body/sandbox/uids.ts'
import { eventually } from '../../../e2e/eventually.ts'
import { bundle, type Cage, type CageOptions, cage, type Installation, install } from './cage.ts'

const installation: Installation = install()
afterAll(() => installation.remove())

const living: Cage[] = []
afterAll(() => Promise.all(living.map((one) => one.end())))

function start(options: Omit<CageOptions, 'loader'>): Cage {
  const one = cage({ loader: installation.loader, ...options })
  living.push(one)
  return one
}

/** The program's result, or the code of its error. */
async function ask(options: Omit<CageOptions, 'loader'>): Promise<unknown> {
  const one = start(options)
  try {
    return await one.answer
  } finally {
    await one.end()
  }
}

/** A handle that needs native code turns off Node's permission model, which would refuse before the kernel does. */
const nothing = openSync('/dev/null', 'r')
afterAll(() => closeSync(nothing))
const NATIVE = {
  grants: [{ name: 'bus', id: 1, kind: 'spi', via: 'inherit', encoding: 'spi' }],
  fds: [nothing],
} as const satisfies Partial<CageOptions>

/** The top folder of the installed packages, which have the same path inside. */
const PACKAGES = realpathSync(createRequire(import.meta.url).resolve('koffi')).split('/')[1]

/** A descriptor left open by the parent of this process. */
const LEAKED = 240

const LOOK = `
const fs = await import('node:fs')
const tried = (run) => { try { return run() } catch (error) { return error.code } }
const list = (path) => tried(() => fs.readdirSync(path))
const read = (path) => tried(() => fs.readFileSync(path, 'utf8'))
`

it('cannot be had everywhere: canConfine says why not, and what to do', () => {
  const able = canConfine('namespaces', installation.loader)
  if (able.ok) return
  expect(able.why).not.toBe('')
  expect(able.fix).not.toBe('')
})

const boxes = (['namespaces', 'bwrap'] as const).filter((sandbox) => canConfine(sandbox, installation.loader).ok)

if (boxes.length > 0) loadSystem().bind('dup2', 'int', ['int', 'int'])(nothing, LEAKED)

describe.each(boxes)('in %s', (sandbox) => {
  it('has its own user, no capability, no_new_privs and a filter (HANDLES 13.2, 13.3, 13.7)', async () => {
    const one = start({ sandbox, program: `${LOOK} return { status: read('/proc/self/status'), pid: process.pid }` })
    const { status, pid } = (await one.answer) as { status: string; pid: number }
    const field = (name: string) => new RegExp(`^${name}:[ \\t]*(.*)$`, 'm').exec(status)?.[1]
    expect(one.uid).toBeGreaterThanOrEqual(FIRST_UID)
    for (const name of ['Uid', 'Gid']) expect(field(name)?.split('\t')).toEqual(Array(4).fill(String(one.uid)))
    // the only group is that of data folders, none of the host's
    expect(field('Groups')?.trim()).toBe(String(DATA_GROUP))
    for (const name of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) expect(field(name)).toBe('0'.repeat(16))
    expect([field('NoNewPrivs'), field('Seccomp')]).toEqual(['1', '2'])
    // each command of the chain execs the next; only bwrap stays as a monitor
    if (sandbox === 'namespaces') expect(pid).toBe(one.process.pid)
    await one.end()
  })

  it('sees only the files it needs, and can write only its /tmp and its data folder (HANDLES 13.4, 13.5; HANDOVER 14.2)', async () => {
    const program = `${LOOK}
      const write = (path) => tried(() => { fs.writeFileSync(path, 'x'); return 'written' })
      const full = () => { for (let n = 0; n < 64; n++) fs.appendFileSync('/tmp/full', Buffer.alloc(1 << 20)) }
      return {
        cwd: process.cwd(), root: list('/').filter((name) => name !== '${PACKAGES}' && name !== 'tmp'), run: list('/run/medulla').filter((name) => name !== 'node'),
        program: list('/run/medulla/program'), pids: list('/proc').filter((name) => /^\\d/.test(name)).length,
        writes: ['/x', '/run/x', '/usr/x', '/run/medulla/program/x', '/run/medulla/runtime/x', '/tmp/x', '/run/medulla/data/x'].map(write),
        full: tried(full), own: tried(() => { fs.chmodSync('/run/medulla/program/program.mjs', 0o777); return 'changed' }),
      }`
    expect(await ask({ sandbox, program, ...NATIVE })).toEqual({
      cwd: '/tmp',
      root: ['bin', 'lib', 'lib64', 'proc', 'run', 'usr'].filter((name) => existsSync(`/${name}`)),
      run: ['data', 'program', 'runtime'],
      program: ['program.mjs'],
      // itself, and under bwrap also bwrap's first process
      pids: sandbox === 'bwrap' ? 2 : 1,
      writes: ['EACCES', 'EACCES', 'EROFS', 'EROFS', 'EROFS', 'written', 'written'],
      full: 'ENOSPC',
      own: expect.stringMatching(/EROFS|EPERM/),
    })
  })

  it('has no network unless the board allows it (HANDLES 13.11)', async () => {
    const server = createServer((_, response) => response.end('hello'))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const program = `return await (await fetch('http://127.0.0.1:${port}')).text()`
    const named = `const { lookup } = await import('node:dns/promises'); return (await lookup('localhost')).address`
    await expect(ask({ sandbox, program })).rejects.toThrow(/fetch failed/)
    expect(await ask({ sandbox, program, network: true })).toBe('hello')
    if (existsSync('/etc/hosts')) expect(await ask({ sandbox, program: named, network: true })).toMatch(/127.0.0.1|::1/)
    server.close()
  })

  it('ends with its parent, also when it blocks its event loop (HANDOVER 3.6)', async () => {
    const file = bundle(join(import.meta.dirname, 'children/cageparent.ts'), installation.folder)
    const parent = spawn(process.execPath, [file, installation.loader, sandbox], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [text] = (await once(parent.stdout, 'data')) as [Buffer]
    const { uid, folder } = JSON.parse(String(text)) as { uid: number; folder: string }
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    const alive = () => readdirSync('/proc').filter((pid) => /^\d/.test(pid) && ownerOf(pid) === uid).length
    expect(alive()).toBeGreaterThan(0)
    parent.kill('SIGKILL')
    await eventually(() => alive() === 0)
  })

  it('can start only as many processes as its limit allows (HANDLES 13.6)', async () => {
    const program = `
      const { spawn } = await import('node:child_process')
      const started = await Promise.all(Array.from({ length: 40 }, () => new Promise((done) => {
        const child = spawn('/usr/bin/sleep', ['60'], { stdio: ['pipe', 'pipe', 'pipe'] })
        child.once('error', (error) => done(error.code))
        child.once('spawn', () => done('started'))
      })))
      return started.filter((one) => one === 'EAGAIN').length`
    expect(await ask({ sandbox, program, ...NATIVE, pids: 30 })).toBeGreaterThanOrEqual(15)
  })

  it('joins its control group before anything else', async ({ skip }) => {
    const base = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'].find((path) => existsSync(join(path, 'cgroup.procs')))
    if (base === undefined) skip('there is no cgroup v2')
    const leaf = join(base as string, `medulla-test-${process.pid}-${sandbox}`)
    mkdirSync(leaf)
    // only if the group has the memory controller
    const limit = existsSync(join(leaf, 'memory.max')) ? 256 * 1024 * 1024 : undefined
    if (limit !== undefined) writeFileSync(join(leaf, 'memory.max'), String(limit))
    const program = 'return process.constrainedMemory()'
    const one = start({ sandbox, leafProcs: join(leaf, 'cgroup.procs'), program, ...NATIVE })
    const memory = await one.answer
    // Node reads the limit, and V8 sizes its heap by it
    if (limit !== undefined) expect(memory).toBe(limit)
    const members = readFileSync(join(leaf, 'cgroup.procs'), 'utf8').trim().split('\n')
    expect(members).toContain(String(one.process.pid))
    expect(members).toHaveLength(sandbox === 'bwrap' ? 3 : 1)
    await one.end()
    await eventually(() => removed(leaf))
  })

  it('gets its descriptors without holes, and no others (HANDLES 13.6)', async () => {
    const program = `${LOOK}
      const open = (fd) => tried(() => { fs.fstatSync(fd); return true }) === true
      const given = Array.from({ length: 12 }, (_, fd) => open(fd))
      return { given, written: tried(() => fs.writeSync(11, 'x')), leaked: open(${LEAKED}) }`
    const fd = openSync('/dev/null', 'w')
    const grants = [{ name: 'led', id: 1, kind: 'output', via: 'inherit', encoding: 'text' }] as const
    expect(await ask({ sandbox, program, grants, fds: [fd] })).toEqual({
      given: Array(12).fill(true),
      written: 1,
      leaked: false,
    })
    closeSync(fd)
  })
})

describe.skipIf(!boxes.includes('bwrap'))('Node under bwrap', () => {
  it('holds no io_uring, as the filter is on before Node starts (HANDLES 13.13, 13.14)', async () => {
    const program = `${LOOK} return list('/proc/self/fd').map((fd) => tried(() => fs.readlinkSync('/proc/self/fd/' + fd)))`
    const links = (await ask({ sandbox: 'bwrap', program, ...NATIVE })) as string[]
    expect(links.length).toBeGreaterThan(3)
    expect(links.filter((link) => link.includes('io_uring'))).toEqual([])
  })

  it("also has Node's permission model when no handle needs native code (HANDLES 13.13)", async () => {
    const program = `${LOOK}
      const { spawnSync } = await import('node:child_process')
      const native = () => process.dlopen({ exports: {} }, '/usr/lib/x.node')
      return { etc: list('/usr'), tmp: list('/tmp'), spawn: tried(() => spawnSync('/usr/bin/true').status), native: tried(native) }`
    expect(await ask({ sandbox: 'bwrap', program })).toEqual({
      etc: 'ERR_ACCESS_DENIED',
      // empty, unless the installation itself lies below /tmp
      tmp: expect.any(Array),
      spawn: 'ERR_ACCESS_DENIED',
      native: 'ERR_DLOPEN_DISABLED',
    })
  })
})

describe('the loader', () => {
  it('imports no program when the process is not confined as required (HANDLES 13.7)', async () => {
    const own = Array.from({ length: 7 }, () => 'ignore' as const)
    const child = spawn(process.execPath, [installation.loader], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', ...own],
    })
    const control = child.stdio[3] as Duplex
    control.write(`${JSON.stringify({ t: 'sandbox', grants: [], confine: { network: false, filter: 'installed' } })}\n`)
    const [text] = (await once(control, 'data')) as [Buffer]
    expect(JSON.parse(String(text))).toMatchObject({
      t: 'fatal',
      message: expect.stringMatching(/not confined: \w+ is/),
    })
    expect(await once(child, 'exit')).toEqual([1, null])
  })
})

describe('uids', () => {
  it('are not reused before all others were used', () => {
    const uids = new Uids(UID_COUNT - 1)
    const [last, first] = [uids.take(), uids.take()]
    expect([last, first]).toEqual([FIRST_UID + UID_COUNT - 1, FIRST_UID])
    uids.release(first)
    // a uid is not reused at once, as processes of the dead program may still be ending
    expect(uids.take()).toBe(FIRST_UID + 1)
    const seen = new Set(Array.from({ length: 100 }, () => uids.take()))
    expect(seen.size).toBe(100)
  })
})

/** False while processes are still ending in the group. */
function removed(group: string): boolean {
  try {
    rmdirSync(group)
    return true
  } catch {
    return false
  }
}

function ownerOf(pid: string): number | null {
  try {
    return Number(/^Uid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
  } catch {
    return null
  }
}
