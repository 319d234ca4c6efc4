/**
 * Invariant: when `confineSelf` returns, no thread of this process has a capability or can get one, and every thread is
 * under the filter (HANDLES 13.3, 13.7; test/runtime/body/sandbox/confinement.test.ts). The loader calls it before any program
 * code runs.
 */
import { readFileSync } from 'node:fs'
import { loadSystem } from '../../drivers/owner/linux/system.ts'
import { encode } from './bpf.ts'
import { type Arch, filter, isArch } from './seccomp.ts'
import { SYSCALLS } from './seccomp-tables.ts'
import type { Init } from './wire.ts'

/** linux/prctl.h */
const PR_SET_DUMPABLE = 4

/** linux/seccomp.h */
const SECCOMP_SET_MODE_FILTER = 1
const SECCOMP_FILTER_FLAG_TSYNC = 1

/** Throws when the process is not confined as `confine` requires. */
export function confineSelf({ confine, grants }: Pick<Init, 'confine' | 'grants'>): void {
  if (confine === null) return
  // /tmp is writable; the folder in which the process was started does not exist in its new root
  process.chdir('/tmp')
  if (confine.filter === 'install') {
    if (!isArch(process.arch)) throw new Error(`there is no filter for ${process.arch}`)
    install(process.arch, encode(filter({ arch: process.arch, grants, network: confine.network })))
  }
  expectStatus({ ...NO_CAPABILITY, ...FILTERED })
  if (process.getuid?.() === 0) throw new Error('not confined: the program would run as root')
}

/** How the endpoint confines itself before it reads its first byte from the network. */
export interface ServerConfine {
  /** The uid of the endpoint's own user, in its own root; null: the endpoint runs as the body's user. */
  user: number | null
  /** False when there is no filter for this architecture, or koffi is missing. */
  seccomp: boolean
}

/** Confines the endpoint (HANDOVER 8.14, 8.15). Throws when the process is not confined as `confine` requires. */
export function confineServer({ user, seccomp }: ServerConfine): void {
  if (process.platform !== 'linux') return
  if (user !== null) process.chdir('/tmp')
  if (seccomp) {
    if (!isArch(process.arch)) throw new Error(`there is no filter for ${process.arch}`)
    // closes /proc/PID/mem to other processes of the same user
    loadSystem().prctl(PR_SET_DUMPABLE, 0)
    install(process.arch, encode(filter({ arch: process.arch, grants: [], network: false, server: true })))
  }
  expectStatus({ ...(user === null ? {} : NO_CAPABILITY), ...(seccomp ? FILTERED : { NoNewPrivs: '1' }) })
  if (user !== null && process.getuid?.() !== user) throw new Error(`not confined: expected user ${user}`)
}

const NO_CAPABILITY = { CapPrm: '0'.repeat(16), CapEff: '0'.repeat(16), CapBnd: '0'.repeat(16) }
const FILTERED = { NoNewPrivs: '1', Seccomp: '2' }

/** `expected`: fields of proc_pid_status(5). Throws for the first field that differs. */
function expectStatus(expected: Readonly<Record<string, string>>): void {
  const status = readFileSync('/proc/self/status', 'utf8')
  for (const [name, value] of Object.entries(expected)) {
    const found = new RegExp(`^${name}:\\s*(\\S+)$`, 'm').exec(status)?.[1]
    if (found !== value) throw new Error(`not confined: ${name} is ${found}, expected ${value}`)
  }
}

/** Installs the filter by seccomp(2) for all present threads; later threads inherit it. */
export function install(arch: Arch, program: Uint8Array): void {
  const system = loadSystem()
  // struct sock_fprog
  const header = new Uint8Array(16)
  const view = new DataView(header.buffer)
  view.setUint16(0, program.length / 8, true)
  view.setBigUint64(8, BigInt(system.address(program)), true)
  const thread = system.syscall(SYSCALLS[arch].seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, header)
  if (thread !== 0) throw new Error(`not confined: thread ${thread} did not take the filter`)
}
