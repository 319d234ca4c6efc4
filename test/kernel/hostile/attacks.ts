/**
 * The attacks of a hostile program, one in each line, with the answer it must get. The lines are requests to native.c, run by a
 * program that has written that binary into its own /tmp.
 */
import { existsSync } from 'node:fs'
import type { ConfinedBy } from '../../../runtime/body/sandbox/confinement.ts'
import { IOCTL } from '../../../runtime/sdk/seccomp.ts'
import { FD } from '../../../runtime/sdk/wire.ts'

/** Granted hardware, in this order. */
export const GRANTED = {
  output: FD.firstGrant,
  input: FD.firstGrant + 1,
  i2c: FD.firstGrant + 2,
  pipe: FD.firstGrant + 3,
}

/** Targets of the attacks. */
export interface Victims {
  body: number
  endpoint: number
  /** the program of another slot, and its own frozen predecessor */
  other: number
  old: number
}

export interface Place {
  sandbox: ConfinedBy
  network: boolean
  victims: Victims
  /** files of the robot's home, and of the other program */
  secrets: readonly string[]
  /**
   * the signal that ends an unfiltered process after a 32-bit call; `alive` if the kernel accepts such calls;
   * undefined if the kernel never sees them, so that they are not tried
   */
  oldCall: string | undefined
}

export type Attack = readonly [request: string, answer: string]

const SET_CONFIG = 0xc110b40d
const [I2C_SLAVE, I2C_SLAVE_FORCE, I2C_RDWR, FIONBIO, TIOCSTI] = [0x703, 0x706, 0x707, 0x5421, 0x5412]
const [F_DUPFD, F_SETFL, F_SETOWN, F_SETSIG, F_SETPIPE_SZ, O_NONBLOCK] = [0, 4, 8, 10, 1031, 0o4000]
const [SIGCONT, SIGSTOP, SIGKILL] = [18, 19, 9]
const CLONE_NEWUSER = 0x10000000

export function attacks(place: Place): Attack[] {
  return [
    ...devices(place),
    ...handles(),
    ...Object.values(place.victims).flatMap((pid) => processes(pid, place.sandbox)),
    ...privileges(),
    ...network(place),
    ...files(place),
    ...old(place),
  ]
}

/** A kernel without 32-bit calls kills the process itself. */
function old({ oldCall }: Place): Attack[] {
  return oldCall === undefined ? [] : [['int80', oldCall === 'alive' ? 'SYS' : oldCall]]
}

function devices({ victims }: Place): Attack[] {
  const paths = [
    '/dev/gpiochip0',
    '/dev/i2c-1',
    '/dev/spidev0.0',
    '/dev/mem',
    '/sys/class/gpio/export',
    '/sys/class/pwm',
  ]
  return [
    ...paths.map((path): Attack => [`edit ${path}`, 'ENOENT']),
    // with device numbers of GPIO and I2C
    ['mknodat -100 /tmp/chip 0x2180 0xfe00', 'EPERM'],
    ['mknodat -100 /tmp/bus 0x2180 0x5901', 'EPERM'],
    // the open file behind a descriptor is shared with the body
    ...Object.values(GRANTED).map((fd): Attack => [`edit /proc/self/fd/${fd}`, 'EACCES']),
    ...Object.values(victims).map((pid): Attack => [`open /proc/${pid}/fd/3`, 'ENOENT']),
  ]
}

/** Attacks on granted descriptors (HANDLES 13.8, 13.9). */
function handles(): Attack[] {
  const { output, input, i2c, pipe } = GRANTED
  const all = [output, input, i2c, pipe]
  const ioctl = (fd: number, request: number): Attack => [`ioctl ${fd} ${request} buf`, 'EPERM']
  return [
    ...[output, input].map((fd) => ioctl(fd, SET_CONFIG)),
    ioctl(input, IOCTL.lineSet),
    ...[I2C_SLAVE, I2C_SLAVE_FORCE, I2C_RDWR].map((request) => ioctl(i2c, request)),
    ...all.flatMap((fd): Attack[] => [
      ioctl(fd, FIONBIO),
      ioctl(fd, TIOCSTI),
      [`fcntl ${fd} ${F_SETFL} ${O_NONBLOCK}`, 'EPERM'],
      [`fcntl ${fd} ${F_SETOWN} 1`, 'EPERM'],
      [`fcntl ${fd} ${F_SETSIG} ${SIGKILL}`, 'EPERM'],
      [`fcntl ${fd} ${F_SETPIPE_SZ} 4096`, 'EPERM'],
      [`fcntl ${fd} ${F_DUPFD} 50`, 'EPERM'],
      [`dup ${fd}`, 'EPERM'],
      [`dup3 ${fd} 50 0`, 'EPERM'],
      [`flock ${fd} 2`, 'EPERM'],
      [`ftruncate ${fd} 0`, 'EPERM'],
    ]),
    ...['read', 'pread64', 'readv'].map((call): Attack => [`${call} ${input} buf 1 0`, 'EPERM']),
    [`splice ${input} 0 1 0 16 0`, 'EPERM'],
    [`sendfile 1 ${input} 0 16`, 'EPERM'],
  ]
}

/** Under bwrap other processes do not exist in the pid namespace. Without it hidepid hides them, and the kernel refuses. */
function processes(pid: number, sandbox: ConfinedBy): Attack[] {
  const refused = sandbox === 'bwrap' ? 'ESRCH' : 'EPERM'
  return [
    ...[SIGCONT, SIGSTOP, SIGKILL].map((signal): Attack => [`kill ${pid} ${signal}`, refused]),
    [`tgkill ${pid} ${pid} ${SIGCONT}`, refused],
    [`setpriority 0 ${pid} 19`, refused],
    [`prlimit64 ${pid} 7 0 buf`, refused],
    [`sched_setaffinity ${pid} 8 buf`, refused],
    [`open /proc/${pid}/mem`, 'ENOENT'],
    [`open /proc/${pid}/root/etc/passwd`, 'ENOENT'],
    // PTRACE_ATTACH, PTRACE_SEIZE
    [`ptrace 16 ${pid} 0 0`, 'EPERM'],
    [`ptrace 0x4206 ${pid} 0 0`, 'EPERM'],
    [`process_vm_readv ${pid} buf 1 buf 1 0`, 'EPERM'],
    [`process_vm_writev ${pid} buf 1 buf 1 0`, 'EPERM'],
    [`kcmp ${pid} ${pid} 0 0 0`, 'EPERM'],
    ['pidfd_getfd 3 3 0', 'EPERM'],
  ]
}

/** Attacks on the kernel and its own confinement (HANDLES 13.3, 13.10, 13.12). */
function privileges(): Attack[] {
  const eperm = `
    setuid 0|setgid 0|setgroups 1 buf|unshare ${CLONE_NEWUSER}|unshare 0x20000|clone ${CLONE_NEWUSER + 17} 0 0 0 0|setns 3 0
    mount 0 /tmp tmpfs 0 0|umount2 /proc 2|chroot /tmp|pivot_root /tmp /tmp|fsopen tmpfs 0|open_tree -100 / 1
    bpf 0 buf 64|perf_event_open buf 0 -1 -1 0|userfaultfd 1|add_key user x buf 1 -1|keyctl 0 -1 0
    open_by_handle_at -100 buf 0|init_module buf 0 buf|kexec_load 0 0 0 0|reboot 0 0 0 0|swapoff /x|clock_settime 0 buf
    sethostname x 1|syslog 3 buf 16|quotactl 0 0 0 0|fanotify_init 0 0|acct 0|process_madvise 3 buf 1 4 0|prctl 1 0`
  const requests = eperm
    .split(/[|\n]/)
    .map((request) => request.trim())
    .filter((request) => request !== '')
  return [
    ...requests.map((request): Attack => [request, 'EPERM']),
    ['clone3 buf 88', 'ENOSYS'],
    ['io_uring_setup 8 buf', 'ENOSYS'],
    ['setpriority 0 0 -20', 'EACCES'],
  ]
}

/** Attacks by sockets: UNIX, IPv4, IPv6, netlink, packet, Bluetooth, VSOCK (HANDLES 13.11). */
function network({ network }: Place): Attack[] {
  const never = [1, 16, 17, 31, 40].map((domain): Attack => [`socket ${domain} 3 0`, 'EPERM'])
  // raw PF_INET sockets need a capability: EPERM comes from the kernel, not from the filter
  return [
    ...never,
    ['socket 2 3 1', 'EPERM'],
    ...(network
      ? []
      : ([
          ['socket 2 1 0', 'EPERM'],
          ['sendmsg 3 buf 0', 'EPERM'],
        ] as const)),
  ]
}

/** Attacks on files (HANDLES 13.4, 13.5). */
function files({ secrets, network, sandbox }: Place): Attack[] {
  const absent = [
    ...secrets,
    '/home',
    '/root',
    '/var',
    '/boot',
    '/run/systemd',
    '/run/dbus',
    '/dev/shm',
    '/etc/medulla',
  ]
  return [
    ...absent.map((path): Attack => [`open ${path}`, 'ENOENT']),
    ['open /etc/shadow', network ? 'EACCES' : 'ENOENT'],
    ['edit /run/medulla/program/program.mjs', 'EACCES'],
    ['edit /proc/sys/kernel/core_pattern', 'EACCES'],
    ...['/proc/sysrq-trigger', '/proc/kcore', '/proc/kmsg'].map(
      (path): Attack => [`open ${path}`, existsSync(path) ? 'EACCES' : 'ENOENT'],
    ),
    // bwrap's own first process, which runs as root
    ['open /proc/1/environ', sandbox === 'bwrap' ? 'EACCES' : 'ENOENT'],
  ]
}
