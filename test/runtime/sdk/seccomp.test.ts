/** Decisions of the seccomp filter: interpreted for both architectures, and by the kernel on this machine. */
import { spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { buildSync } from 'esbuild'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Grant } from '../../../drivers/program/handle.ts'
import { encode, type Instruction, RET } from '../../../runtime/sdk/bpf.ts'
import { type Arch, AUDIT_ARCH, filter, IOCTL, isArch } from '../../../runtime/sdk/seccomp.ts'
import { SYSCALLS, type Syscall } from '../../../runtime/sdk/seccomp-tables.ts'
import { SCALE } from '../../e2e/eventually.ts'
import { decide } from './bpfmachine.ts'
import { tableOf } from './seccomp-tables.ts'

const ALLOW = RET.allow
const EPERM = RET.errno(1)
const ENOSYS = RET.errno(38)

const GRANTS = [
  { fd: 11, kind: 'output', encoding: 'line' },
  { fd: 12, kind: 'input', encoding: 'line' },
  { fd: 13, kind: 'i2c', encoding: 'i2c' },
  { fd: 14, kind: 'spi', encoding: 'spi' },
  { fd: 15, kind: 'serial', encoding: 'serial' },
  { fd: 16, kind: 'pwm', encoding: 'text' },
] as const satisfies readonly Pick<Grant, 'fd' | 'kind' | 'encoding'>[]
const [OUTPUT, INPUT, I2C, SPI, SERIAL, TEXT, OTHER] = [11, 12, 13, 14, 15, 16, 17]

const SET_CONFIG = 0xc110b40d
const [TCGETS, TIOCSTI, FIONREAD, FIONBIO, I2C_SLAVE, I2C_SLAVE_FORCE, I2C_RDWR] = [
  0x5401, 0x5412, 0x541b, 0x5421, 0x0703, 0x0706, 0x0707,
]

const ARCHES = Object.keys(SYSCALLS) as Arch[]
const nrOf = (arch: Arch, name: Syscall): number => (SYSCALLS[arch] as Record<string, number>)[name] as number

describe.each(ARCHES)('the filter of %s', (arch) => {
  const program = filter({ arch, grants: GRANTS, network: false })
  const open = filter({ arch, grants: GRANTS, network: true })
  const call = (name: Syscall, ...args: (number | bigint)[]) =>
    decide(program, { nr: nrOf(arch, name), arch: AUDIT_ARCH[arch], args })

  it('has the numbers of the kernel headers', ({ skip }) => {
    const headers = tableOf(arch)
    if (headers === null) skip('linux-libc-dev is not installed')
    expect(SYSCALLS[arch]).toEqual(headers)
    const elsewhere = Object.keys(SYSCALLS.x64).filter((name) => !(name in SYSCALLS.arm64))
    expect(elsewhere).toEqual(['dup2', 'fork', 'vfork', 'modify_ldt', 'iopl', 'ioperm'])
  })

  it('allows on a granted descriptor what its encoding needs, and no other ioctl (HANDLES 13.8)', () => {
    const every = [
      ...Object.values(IOCTL),
      ...[SET_CONFIG, TCGETS, TIOCSTI, FIONREAD, FIONBIO, I2C_SLAVE, I2C_SLAVE_FORCE, I2C_RDWR],
    ]
    const allowed = (fd: number) => every.filter((request) => call('ioctl', fd, request) === ALLOW)
    expect(allowed(OUTPUT)).toEqual([IOCTL.lineGet, IOCTL.lineSet])
    expect(allowed(INPUT)).toEqual([IOCTL.lineGet])
    expect(allowed(I2C)).toEqual([IOCTL.smbus])
    expect(allowed(SPI)).toEqual([IOCTL.spiMessage])
    expect(allowed(SERIAL)).toEqual([])
    expect(allowed(TEXT)).toEqual([])
    expect(allowed(OTHER)).toEqual([TCGETS, FIONREAD, FIONBIO])
    expect(call('ioctl', OUTPUT, SET_CONFIG)).toBe(EPERM)
  })

  it('checks the low half of an int argument, as the kernel does', () => {
    const high = 0xdeadbeef_00000000n
    expect(call('ioctl', high | BigInt(OUTPUT), high | BigInt(IOCTL.lineSet))).toBe(ALLOW)
    expect(call('ioctl', high | BigInt(OUTPUT), high | BigInt(SET_CONFIG))).toBe(EPERM)
    expect(call('read', high | BigInt(INPUT))).toBe(EPERM)
    expect(call('fcntl', high | BigInt(INPUT), high | 4n)).toBe(EPERM)
  })

  it('denies reading edges of a line, which belong to the body (HANDLES 13.9)', () => {
    for (const name of ['read', 'pread64', 'readv', 'preadv', 'preadv2', 'splice', 'tee', 'copy_file_range'] as const) {
      expect([name, call(name, INPUT)]).toEqual([name, EPERM])
      expect([name, call(name, I2C)]).toEqual([name, ALLOW])
    }
    expect(call('sendfile', OTHER, INPUT)).toBe(EPERM)
    expect(call('sendfile', INPUT, OTHER)).toBe(ALLOW)
  })

  it('denies copying granted descriptors and changing their open files (HANDLES 13.9)', () => {
    const changes = ['dup', 'dup3', 'flock', 'ftruncate', 'fallocate', ...(arch === 'x64' ? ['dup2'] : [])] as Syscall[]
    for (const { fd } of GRANTS) {
      for (const name of changes) expect([name, fd, call(name, fd)]).toEqual([name, fd, EPERM])
      // F_DUPFD, F_SETFL, F_SETLK, F_SETOWN, F_SETSIG, F_SETLEASE, F_NOTIFY, F_DUPFD_CLOEXEC, F_SETPIPE_SZ
      for (const command of [0, 4, 6, 8, 10, 1024, 1026, 1030, 1031]) expect(call('fcntl', fd, command)).toBe(EPERM)
      // F_GETFD, F_SETFD, F_GETFL
      for (const command of [1, 2, 3]) expect(call('fcntl', fd, command)).toBe(ALLOW)
    }
    for (const name of changes) expect(call(name, OTHER)).toBe(ALLOW)
    expect(call('fcntl', OTHER, 4)).toBe(ALLOW)
  })

  it('allows copying a listening socket and setting close-on-exec, nothing else (HANDLES 17.3)', () => {
    const listens = filter({ arch, grants: [{ fd: 20, kind: 'listen', encoding: 'listen' }], network: false })
    const on = (name: Syscall, ...args: number[]) =>
      decide(listens, { nr: nrOf(arch, name), arch: AUDIT_ARCH[arch], args })
    const allowed = [0, 1, 2, 3, 4, 6, 8, 10, 1024, 1026, 1030, 1031].filter((each) => on('fcntl', 20, each) === ALLOW)
    expect(allowed).toEqual([1, 2, 3, 1030])
    expect(on('dup', 20)).toBe(EPERM)
    expect(on('ioctl', 20, FIONBIO)).toBe(EPERM)
    // on the copy
    expect(on('ioctl', 21, FIONBIO)).toBe(ALLOW)
  })

  it('denies calls on other processes, the kernel and the machine (HANDLES 13.10, 13.12)', () => {
    const denied: Syscall[] = ['ptrace', 'pidfd_getfd', 'process_vm_writev', 'kcmp', 'bpf', 'mount', 'unshare', 'setns']
    denied.push('keyctl', 'perf_event_open', 'userfaultfd', 'open_by_handle_at', 'reboot', 'clock_settime')
    if (arch === 'x64') denied.push('iopl', 'ioperm', 'modify_ldt')
    for (const name of denied) expect([name, call(name)]).toEqual([name, EPERM])
    for (const name of ['clone3', 'io_uring_setup'] as const) expect([name, call(name)]).toEqual([name, ENOSYS])
    // SIGINT, SIGABRT
    expect([call('tkill', 9, 2), call('tgkill', 9, 9, 2), call('tkill', 9, 6), call('tgkill', 9, 9, 6)]).toEqual([
      EPERM,
      EPERM,
      ALLOW,
      ALLOW,
    ])
    expect(call('clone', 0x10000000 | 17)).toBe(EPERM)
    // a thread of glibc
    expect(call('clone', 0x3d0f00)).toBe(ALLOW)
    // PR_SET_PDEATHSIG, PR_SET_NAME
    expect(call('prctl', 1, 0)).toBe(EPERM)
    expect(call('prctl', 15)).toBe(ALLOW)
  })

  it('HANDOVER 8.14: denies the endpoint connections, new processes and signals', () => {
    const server = filter({ arch, grants: [], network: false, server: true })
    const serves = (name: Syscall, ...args: number[]) =>
      decide(server, { nr: nrOf(arch, name), arch: AUDIT_ARCH[arch], args })
    const denied: Syscall[] = ['socket', 'connect', 'bind', 'sendto', 'sendmsg', 'sendmmsg', 'execve', 'execveat']
    denied.push('kill', 'tkill', 'tgkill', 'rt_sigqueueinfo', 'rt_tgsigqueueinfo', 'pidfd_open', 'pidfd_send_signal')
    denied.push('ptrace', 'process_vm_readv', 'bpf', 'mount', 'keyctl', 'kexec_load', 'finit_module')
    if (arch === 'x64') denied.push('fork', 'vfork')
    for (const name of denied) expect([name, serves(name, 2)]).toEqual([name, EPERM])
    // the flags of fork(3), of a glibc thread, and of a thread in another namespace
    expect([0x1200011, 0x3d0f00, 0x10010000].map((flags) => serves('clone', flags))).toEqual([EPERM, ALLOW, EPERM])
    expect(serves('clone3')).toBe(ENOSYS)
    for (const name of ['read', 'ftruncate', 'dup'] as const) expect([name, serves(name, 6)]).toEqual([name, ALLOW])
  })

  it('allows sockets and messages only with network (HANDLES 13.11)', () => {
    const domains = [1, 2, 10, 16, 17, 40]
    const socket = (with_: readonly Instruction[]) =>
      domains.filter(
        (domain) => decide(with_, { nr: nrOf(arch, 'socket'), arch: AUDIT_ARCH[arch], args: [domain] }) === ALLOW,
      )
    expect(socket(program)).toEqual([])
    expect(socket(open)).toEqual([2, 10])
    for (const name of ['sendmsg', 'sendmmsg', 'sendto', 'connect', 'bind'] as const) {
      expect(call(name)).toBe(EPERM)
      expect(decide(open, { nr: nrOf(arch, name), arch: AUDIT_ARCH[arch] })).toBe(ALLOW)
    }
  })

  it('kills a process that uses the calls of another architecture (HANDLES 13.12)', () => {
    // AUDIT_ARCH_I386, AUDIT_ARCH_ARM
    for (const other of [0x40000003, 0x40000028]) expect(decide(program, { nr: 1, arch: other })).toBe(RET.kill)
    const x32 = decide(program, { nr: 0x40000000 + 16, arch: AUDIT_ARCH[arch], args: [OUTPUT, SET_CONFIG] })
    expect(x32).toBe(arch === 'x64' ? ENOSYS : ALLOW)
  })

  it('decides every call', () => {
    const word = fc.integer({ min: 0, max: 0xffffffff })
    const any = fc.record({ nr: fc.integer({ min: 0, max: 600 }), args: fc.array(word, { maxLength: 3 }) })
    const decided = ({ nr, args }: { nr: number; args: number[] }) =>
      [ALLOW, EPERM, ENOSYS].includes(decide(program, { nr, arch: AUDIT_ARCH[arch], args }))
    fc.assert(fc.property(any, decided), { numRuns: 2000 })
  })

  it('allows other calls by number alone, so that the kernel can cache the decision and skip the filter', () => {
    const named = new Set<number>(Object.values(SYSCALLS[arch]))
    for (let nr = 0; nr < 470; nr++) {
      if (named.has(nr)) continue
      const read: number[] = []
      expect(decide(program, { nr, arch: AUDIT_ARCH[arch] }, (offset) => read.push(offset))).toBe(ALLOW)
      expect(read).toEqual([4, 0])
    }
  })

  it('fits a program with every line of a Pi', () => {
    const many = Array.from({ length: 54 }, (_, n) => ({ fd: 11 + n, kind: 'output', encoding: 'line' }) as const)
    const program = filter({ arch, grants: many, network: false })
    const last = { nr: nrOf(arch, 'ioctl'), arch: AUDIT_ARCH[arch] }
    expect(decide(program, { ...last, args: [64, IOCTL.lineSet] })).toBe(ALLOW)
    expect(decide(program, { ...last, args: [64, SET_CONFIG] })).toBe(EPERM)
    expect(decide(program, { ...last, args: [65, IOCTL.lineSet] })).toBe(EPERM)
    expect(encode(program)).toHaveLength(program.length * 8)
  })
})

/** Installs the filter in a child process, and returns the kernel's answers. */
const able = process.platform === 'linux' && isArch(process.arch)
describe.skipIf(!able)('the kernel under the filter', () => {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-seccomp-'))
  const root = resolve(import.meta.dirname, '../../..')
  const file = join(folder, 'child.mjs')

  beforeAll(() => {
    buildSync({
      entryPoints: [join(import.meta.dirname, 'children/filtered.ts')],
      outfile: file,
      bundle: true,
      platform: 'node',
      format: 'esm',
      external: ['koffi'],
      logLevel: 'error',
    })
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  /** For the filter, descriptor 11 is a granted input line, and 12 a granted i2c device. */
  function run(what: string): Record<string, string> {
    const fds = Array.from({ length: 10 }, () => openSync('/dev/null', 'r+'))
    const child = spawnSync(process.execPath, [file, what], {
      stdio: ['ignore', 'pipe', 'pipe', ...fds],
      env: { ...process.env, UV_USE_IO_URING: '0' },
      encoding: 'utf8',
      timeout: 150_000 * SCALE,
    })
    for (const fd of fds) closeSync(fd)
    if (child.status !== 0) return { ended: child.signal ?? String(child.status), stderr: child.stderr }
    return JSON.parse(child.stdout) as Record<string, string>
  }

  it('refuses with errno', () => {
    expect(run('calls')).toEqual({
      'SET_CONFIG on a line': 'EPERM',
      // ENOTTY of /dev/null: the call passed the filter
      'GET_VALUES on a line': 'ENOTTY',
      'I2C_SLAVE on i2c': 'EPERM',
      'SMBUS on i2c': 'ENOTTY',
      'TIOCSTI elsewhere': 'EPERM',
      'FIONREAD elsewhere': 'ENOTTY',
      'read of a line': 'EPERM',
      'read of i2c': '0',
      'dup of i2c': 'EPERM',
      'F_SETFL on i2c': 'EPERM',
      ptrace: 'EPERM',
      pidfd_getfd: 'EPERM',
      unshare: 'EPERM',
      'clone into a user namespace': 'EPERM',
      clone3: 'ENOSYS',
      io_uring_setup: 'ENOSYS',
      bpf: 'EPERM',
      mount: 'EPERM',
      'socket AF_UNIX': 'EPERM',
      'socket AF_INET': 'EPERM',
      PR_SET_PDEATHSIG: 'EPERM',
      'x32 getpid': process.arch === 'x64' ? 'ENOSYS' : 'EPERM',
      'thread that was there before': 'EPERM',
      'thread made afterwards': 'EPERM',
      child: 'EPERM',
    })
  })

  it('does not keep Node from working', () => {
    expect(run('node')).toEqual({
      file: 'hello',
      copy: 'hello',
      async: 'hello',
      timer: 'late',
      random: '8',
      zlib: 'hello',
      worker: 'pong',
      fork: 'pong',
      spawn: 'out\n',
      address: expect.stringMatching(/^E/),
    })
  })

  it('kills a process that makes a 32-bit call', ({ skip }) => {
    if (process.arch !== 'x64') skip('there is no such way in')
    const source = join(folder, 'old.c')
    writeFileSync(source, 'int main(void){int r;__asm__ volatile("int $0x80":"=a"(r):"a"(20));return 0;}')
    const built = spawnSync('gcc', ['-O', '-o', join(folder, 'old'), source])
    if (built.status !== 0) skip('there is no gcc')
    // a kernel without 32-bit calls kills the process itself
    const { signal } = spawnSync(join(folder, 'old'))
    expect(run(join(folder, 'old'))).toEqual({ ended: signal ?? 'SIGSYS' })
  })
})
