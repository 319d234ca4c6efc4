/** Invariant: a child gets the descriptors it is given, and none that this process had from whoever started it. */
import { readdirSync, readFileSync } from 'node:fs'
import { loadSystem } from '../../../drivers/owner/linux/system.ts'

const F_SETFD = 2
const FD_CLOEXEC = 1
const O_CLOEXEC = 0o2000000

/**
 * HANDLES 13.6: Node closes what it opens itself, and passes on what it inherited (an editor's pipe, a supervisor's
 * socket). Call it once, before the first child. Returns the numbers of those it has closed to children.
 */
export function keepToItself(): number[] {
  const fcntl = loadSystem().bind('fcntl', 'int', ['int', 'int', 'long'])
  return readdirSync('/proc/self/fdinfo').flatMap((name) => {
    const fd = Number(name)
    if (fd <= 2 || isClosedOnExec(fd)) return []
    fcntl(fd, F_SETFD, FD_CLOEXEC)
    return [fd]
  })
}

/** proc_pid_fdinfo(5): flags in octal. True for one that is gone: the listing's own. */
function isClosedOnExec(fd: number): boolean {
  try {
    const flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '0'
    return (Number.parseInt(flags, 8) & O_CLOEXEC) !== 0
  } catch {
    return true
  }
}
