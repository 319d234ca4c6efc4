/**
 * Invariant: `frozen` is said only of a process of which every thread was seen stopped.
 *
 * SIGSTOP is a weak fence (HANDLES 10.3): it stops one process, not its children, and whoever has its uid can undo it. It
 * is what an unprivileged simulator has; status says `weak`.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** Stops `pid`; true when confirmed within `deadlineMs`. Elsewhere than on Linux nothing can be confirmed: true after the signal. */
export async function freeze(pid: number, deadlineMs: number): Promise<boolean> {
  try {
    process.kill(pid, 'SIGSTOP')
  } catch {
    return false
  }
  if (process.platform !== 'linux') return true
  const end = performance.now() + deadlineMs
  do {
    if (allStopped(pid)) return true
    await sleep(1)
  } while (performance.now() < end)
  return false
}

export function thaw(pid: number): void {
  try {
    process.kill(pid, 'SIGCONT')
  } catch {
    // it is gone: its exit event says so
  }
}

/** proc(5): the state follows the command's closing parenthesis. */
function allStopped(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every((task) => {
      const stat = readFileSync(`/proc/${pid}/task/${task}/stat`, 'utf8')
      return stat.charAt(stat.lastIndexOf(')') + 2) === 'T'
    })
  } catch {
    return false
  }
}
