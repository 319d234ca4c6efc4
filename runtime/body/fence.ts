/**
 * Invariant: `stopped` is said of a program only when nothing of it can run: its leaf is frozen, or, without cgroup v2, every
 * thread of its process was seen stopped, which is the weak form (HANDLES 10).
 */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/** HANDLES 10.8: SIGSTOP. Elsewhere than on Linux nothing can be confirmed: true after the signal. */
export async function stopProcess(pid: number, deadlineMs: number): Promise<boolean> {
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

export function continueProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGCONT')
  } catch {
    // it is gone: its exit event says so
  }
}

/** proc_pid_stat(5): the state follows the command's closing parenthesis. */
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
