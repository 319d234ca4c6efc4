/**
 * Invariant: a child inherits no descriptor that this process inherited itself (HANDLES 13.6;
 * test/runtime/body/sandbox/confinement.test.ts).
 */
import { readdirSync, readFileSync } from 'node:fs'
import { loadSystem } from '../../../drivers/owner/linux/system.ts'

const F_SETFD = 2
const FD_CLOEXEC = 1
const O_CLOEXEC = 0o2000000

/**
 * Sets close-on-exec on the descriptors that this process inherited, such as an editor's pipe or a supervisor's socket: Node
 * sets it only on those that it opens itself. To be called once, before the first child. Returns the descriptors it changed.
 */
export function closeInheritedOnExec(): number[] {
  const fcntl = loadSystem().bind('fcntl', 'int', ['int', 'int', 'long'])
  return readdirSync('/proc/self/fdinfo').flatMap((name) => {
    const fd = Number(name)
    if (fd <= 2 || isClosedOnExec(fd)) return []
    fcntl(fd, F_SETFD, FD_CLOEXEC)
    return [fd]
  })
}

/** The flags are octal (proc_pid_fdinfo(5)). True for a descriptor that is closed by now: the listing's own. */
function isClosedOnExec(fd: number): boolean {
  try {
    const flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '0'
    return (Number.parseInt(flags, 8) & O_CLOEXEC) !== 0
  } catch {
    return true
  }
}
