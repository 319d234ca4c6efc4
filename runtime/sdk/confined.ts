/**
 * Invariant: when `confineSelf` returns, no thread of this process has a capability, none can get one, and each is under
 * the filter (HANDLES 13.3, 13.7). Nothing of the program has run by then.
 */
import { readFileSync } from 'node:fs'
import { loadSystem } from '../../drivers/linux/system.ts'
import { encode } from './bpf.ts'
import { type Arch, filter, isArch } from './seccomp.ts'
import { SYSCALLS } from './seccomp-tables.ts'
import type { Init } from './wire.ts'

/** linux/seccomp.h */
const SECCOMP_SET_MODE_FILTER = 1
const SECCOMP_FILTER_FLAG_TSYNC = 1

/** Throws when the process is not confined as `init` says it is. */
export function confineSelf({ confine, grants }: Pick<Init, 'confine' | 'grants'>): void {
  if (confine === null) return
  // the folder that is writable; the one it started in is not even there
  process.chdir('/tmp')
  if (confine.filter === 'install') {
    if (!isArch(process.arch)) throw new Error(`there is no filter for ${process.arch}`)
    install(process.arch, encode(filter({ arch: process.arch, grants, network: confine.network })))
  }
  const status = readFileSync('/proc/self/status', 'utf8')
  const field = (name: string) => new RegExp(`^${name}:\\s*(\\S+)$`, 'm').exec(status)?.[1]
  const expected = {
    CapPrm: '0'.repeat(16),
    CapEff: '0'.repeat(16),
    CapBnd: '0'.repeat(16),
    NoNewPrivs: '1',
    Seccomp: '2',
  }
  for (const [name, value] of Object.entries(expected)) {
    if (field(name) !== value) throw new Error(`not confined: ${name} is ${field(name)}, expected ${value}`)
  }
  if (process.getuid?.() === 0) throw new Error('not confined: the program would run as root')
}

/** seccomp(2), for every thread there is and for those to come. */
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
