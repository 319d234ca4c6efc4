/**
 * Makes runtime/sdk/seccomp-tables.ts from the kernel's headers (linux-libc-dev has those of both machines):
 * npx esbuild test/runtime/sdk/seccomp-tables.ts --format=esm | node --input-type=module - --print > runtime/sdk/seccomp-tables.ts
 */
import { existsSync, readFileSync } from 'node:fs'
import type { Arch } from '../../../runtime/sdk/seccomp.ts'

const HEADERS: Record<Arch, readonly string[]> = {
  x64: ['/usr/include/x86_64-linux-gnu/asm/unistd_64.h', '/usr/include/asm/unistd_64.h'],
  // arm64 uses the generic table
  arm64: ['/usr/include/asm-generic/unistd.h'],
}

/** The calls that runtime/sdk/seccomp.ts names, and seccomp(2). */
const USED = `
  seccomp ioctl read pread64 readv preadv preadv2 splice tee copy_file_range sendfile fcntl dup dup2 dup3 flock ftruncate
  fallocate clone clone3 prctl socket sendmsg sendmmsg io_uring_setup io_uring_register
  ptrace process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp move_pages migrate_pages
  mount umount2 pivot_root chroot move_mount fsopen fsconfig fsmount fspick open_tree mount_setattr unshare setns
  open_by_handle_at quotactl quotactl_fd fanotify_init bpf perf_event_open userfaultfd add_key request_key keyctl
  lookup_dcookie syslog init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff acct
  settimeofday clock_settime clock_adjtime adjtimex sethostname setdomainname vhangup iopl ioperm modify_ldt
  fork vfork execve execveat connect bind sendto
  kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_send_signal
`
  .trim()
  .split(/\s+/)

/** Names to numbers, sorted by number; null when the headers are missing. */
export function tableOf(arch: Arch): Record<string, number> | null {
  const header = HEADERS[arch].find((path) => existsSync(path))
  if (header === undefined) return null
  const found: [string, number][] = []
  for (const [, name = '', number] of readFileSync(header, 'utf8').matchAll(
    /^#define __NR(?:3264)?_(\w+)\s+(\d+)$/gm,
  )) {
    if (USED.includes(name)) found.push([name, Number(number)])
  }
  return Object.fromEntries(found.sort(([, a], [, b]) => a - b))
}

if (process.argv.includes('--print')) {
  const lines = [
    '/** Numbers of system calls, made by test/runtime/sdk/seccomp-tables.ts from the headers of the kernel. */',
  ]
  lines.push('export const SYSCALLS = {')
  for (const arch of Object.keys(HEADERS) as Arch[]) {
    const table = tableOf(arch)
    if (table === null) throw new Error('linux-libc-dev is not installed')
    lines.push(`  ${arch}: {`, ...Object.entries(table).map(([name, nr]) => `    ${name}: ${nr},`), '  },')
  }
  lines.push(
    '} as const',
    '',
    "export type Syscall = keyof (typeof SYSCALLS)['x64'] | keyof (typeof SYSCALLS)['arm64']",
    '',
  )
  process.stdout.write(lines.join('\n'))
}
