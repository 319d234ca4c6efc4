/**
 * Invariant: on a granted descriptor only the system calls of its encoding are allowed; on other descriptors only the calls
 * listed here are denied (HANDLES 13.8 to 13.12; test/runtime/sdk/seccomp.test.ts).
 *
 * The filter sees the numbers in a call's arguments, never the memory they point to: it cannot check the contents of an SPI
 * message or an SMBus command.
 */
import type { Encoding, Grant } from '../../drivers/program/handle.ts'
import { BPF, DATA, type Instruction, load, RET, ret, when } from './bpf.ts'
import { SYSCALLS, type Syscall } from './seccomp-tables.ts'

export type Arch = keyof typeof SYSCALLS
export const isArch = (text: string): text is Arch => Object.hasOwn(SYSCALLS, text)

/** linux/audit.h */
export const AUDIT_ARCH = { x64: 0xc000003e, arm64: 0xc00000b7 } as const
/** Bit of the numbers of x32 calls on x86-64. */
const X32 = 0x40000000

const EPERM = RET.errno(1)
const ENOSYS = RET.errno(38)

/** linux/gpio.h, linux/i2c-dev.h, linux/spi/spidev.h */
export const IOCTL = {
  lineGet: 0xc010b40e,
  lineSet: 0xc010b40f,
  smbus: 0x0720,
  spiMessage: 0x40206b00,
} as const

/** asm-generic/ioctls.h, those that Node and libc need on their own files: TCGETS TCGETS2 TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX */
const HARMLESS = [0x5401, 0x802c542a, 0x5413, 0x541b, 0x5421, 0x5450, 0x5451]

/** F_GETFD F_SETFD F_GETFL: they do not change the open file that a granted descriptor shares with other processes. */
const FCNTL_OWN = [1, 2, 3]
/** F_DUPFD_CLOEXEC: a server closes its listening descriptor, so each server gets a copy (HANDLES 17.3). */
const FCNTL_COPY = 1030

/** linux/sched.h: CLONE_NEWNS NEWCGROUP NEWUTS NEWIPC NEWUSER NEWPID NEWNET */
const CLONE_NEW = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000

/** linux/sched.h */
const CLONE_THREAD = 0x00010000

const PR_SET_PDEATHSIG = 1
const SIGINT = 2
const AF_INET = [2, 10]

/** Always denied (HANDLES 13.10). */
const DENIED = [
  // other processes
  ...['ptrace', 'process_vm_readv', 'process_vm_writev', 'process_madvise', 'pidfd_getfd', 'kcmp'],
  ...['move_pages', 'migrate_pages'],
  // mounts and namespaces
  ...['mount', 'umount2', 'pivot_root', 'chroot', 'move_mount', 'fsopen', 'fsconfig', 'fsmount', 'fspick', 'open_tree'],
  ...['mount_setattr', 'unshare', 'setns', 'open_by_handle_at', 'quotactl', 'quotactl_fd', 'fanotify_init'],
  // large attack surface, and of no use to a robot program
  ...['bpf', 'perf_event_open', 'userfaultfd', 'add_key', 'request_key', 'keyctl', 'lookup_dcookie', 'syslog'],
  // control of the whole machine
  ...['init_module', 'finit_module', 'delete_module', 'kexec_load', 'kexec_file_load', 'reboot', 'swapon', 'swapoff'],
  ...['acct', 'settimeofday', 'clock_settime', 'clock_adjtime', 'adjtimex', 'sethostname', 'setdomainname'],
  ...['vhangup', 'iopl', 'ioperm', 'modify_ldt'],
] as const satisfies readonly Syscall[]

/**
 * Also denied to the endpoint, which only serves (HANDOVER 8.14). `connect`, and `sendto` with MSG_FASTOPEN, would turn a
 * given socket into an outgoing connection. Signals are denied because without root endpoint and body run as one user.
 */
const DENIED_TO_SERVER = [
  ...['fork', 'vfork', 'execve', 'execveat', 'connect', 'bind', 'sendto'],
  ...['kill', 'tkill', 'tgkill', 'rt_sigqueueinfo', 'rt_tgsigqueueinfo', 'pidfd_open', 'pidfd_send_signal'],
] as const satisfies readonly Syscall[]

/** Denied without network (HANDLES 13.11): `connect`, `bind` and `sendto` with MSG_FASTOPEN could redirect an accepted connection. */
const WITHOUT_NETWORK = ['sendmsg', 'sendmmsg', 'sendto', 'connect', 'bind'] as const satisfies readonly Syscall[]

/**
 * Answered with ENOSYS, so that libc and libuv fall back to older calls (HANDLES 13.12). io_uring_enter is not in the list:
 * Node 24's libuv makes a ring before the filter is installed, and would end the process at ENOSYS (HANDLES 13.14).
 */
const ABSENT = ['clone3', 'io_uring_setup', 'io_uring_register'] as const satisfies readonly Syscall[]

/** Calls that read from the descriptor in their first argument: denied on inputs' lines (HANDLES 13.9). */
const READS = ['read', 'pread64', 'readv', 'preadv', 'preadv2', 'splice', 'tee', 'copy_file_range'] as const
/** Calls that give a descriptor another number, or change the open file that other processes share. */
const CHANGES = ['dup', 'dup2', 'dup3', 'flock', 'ftruncate', 'fallocate'] as const

export interface FilterOptions {
  arch: Arch
  /** The grants of the `sandbox` message; brokered grants have no descriptor. */
  grants: readonly Pick<Grant, 'fd' | 'kind' | 'encoding'>[]
  network: boolean
  /** For the endpoint: it accepts connections, makes none, and neither starts nor signals processes (HANDOVER 8.14). */
  server?: boolean
}

/** The filter of HANDLES 13.8 to 13.12, as a program for seccomp(2). */
export function filter({ arch, grants, network, server = false }: FilterOptions): Instruction[] {
  const table: Partial<Record<Syscall, number>> = SYSCALLS[arch]
  const on = (names: readonly Syscall[], block: readonly Instruction[]): Instruction[] => {
    const numbers = names.map((name) => table[name]).filter((nr) => nr !== undefined)
    return when('eq', numbers, block)
  }
  const unless = (at: number, operands: readonly number[], block: readonly Instruction[]): Instruction[] => [
    load(DATA.arg(at)),
    ...when('eq', operands, block),
    ret(RET.allow),
  ]
  const only = (at: number, operands: readonly number[]): Instruction[] => [
    load(DATA.arg(at)),
    ...when('eq', operands, [ret(RET.allow)]),
    ret(EPERM),
  ]
  const granted = fdsOf(grants, () => true)
  const listening = fdsOf(grants, ({ encoding }) => encoding === 'listen')
  const inputs = fdsOf(grants, ({ kind, encoding }) => kind === 'input' && encoding === 'line')
  return [
    load(DATA.arch),
    [BPF.eq, 1, 0, AUDIT_ARCH[arch]],
    ret(RET.kill),
    load(DATA.nr),
    ...(arch === 'x64' ? when('ge', [X32], [ret(ENOSYS)]) : []),
    ...on(['ioctl'], ioctls(grants, granted, only)),
    ...on(READS, unless(0, inputs, [ret(EPERM)])),
    ...on(['sendfile'], unless(1, inputs, [ret(EPERM)])),
    ...on(
      ['fcntl'],
      [
        load(DATA.arg(0)),
        ...when('eq', listening, only(1, [...FCNTL_OWN, FCNTL_COPY])),
        ...when('eq', granted, only(1, FCNTL_OWN)),
        ret(RET.allow),
      ],
    ),
    ...on(CHANGES, unless(0, granted, [ret(EPERM)])),
    ...on(
      ['clone'],
      [
        load(DATA.arg(0)),
        ...when('set', [CLONE_NEW], [ret(EPERM)]),
        ...(server ? [...when('set', [CLONE_THREAD], [ret(RET.allow)]), ret(EPERM)] : [ret(RET.allow)]),
      ],
    ),
    ...on(['prctl'], unless(0, [PR_SET_PDEATHSIG], [ret(EPERM)])),
    // With --trace-sigint Node prints its stack, then ends by raise(3): refused, so that the program goes on (HANDOVER 4.11).
    ...(server ? [] : on(['tkill'], unless(1, [SIGINT], [ret(EPERM)]))),
    ...(server ? [] : on(['tgkill'], unless(2, [SIGINT], [ret(EPERM)]))),
    ...on(['socket'], only(0, network ? AF_INET : [])),
    ...on(ABSENT, [ret(ENOSYS)]),
    ...on(DENIED, [ret(EPERM)]),
    ...(server ? on(DENIED_TO_SERVER, [ret(EPERM)]) : []),
    ...(network ? [] : on(WITHOUT_NETWORK, [ret(EPERM)])),
    ret(RET.allow),
  ]
}

/** On a granted descriptor the ioctls of its encoding are allowed, on all others the harmless ones (HANDLES 13.8). */
function ioctls(
  grants: FilterOptions['grants'],
  granted: readonly number[],
  only: (at: number, operands: readonly number[]) => Instruction[],
): Instruction[] {
  const of = (encoding: Encoding, kind?: 'input') =>
    fdsOf(grants, (grant) => grant.encoding === encoding && (grant.kind === 'input') === (kind === 'input'))
  return [
    load(DATA.arg(0)),
    ...when('eq', of('line'), only(1, [IOCTL.lineSet, IOCTL.lineGet])),
    ...when('eq', of('line', 'input'), only(1, [IOCTL.lineGet])),
    ...when('eq', of('i2c'), only(1, [IOCTL.smbus])),
    ...when('eq', of('spi'), only(1, [IOCTL.spiMessage])),
    ...when('eq', granted, [ret(EPERM)]),
    ...only(1, HARMLESS),
  ]
}

function fdsOf(grants: FilterOptions['grants'], wanted: (grant: FilterOptions['grants'][number]) => boolean): number[] {
  return grants.filter(wanted).flatMap(({ fd }) => (fd === undefined ? [] : [fd]))
}
