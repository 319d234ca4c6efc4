/**
 * Invariant: `stopped` is said of a program only when nothing of it can run: its leaf is frozen, or, without cgroup v2, every
 * thread of its process was seen stopped, which is the weak form (HANDLES 10).
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * HANDLES 10.8: SIGSTOP. With a `uid` of its own every process of that user is the program's. Elsewhere than on Linux nothing
 * can be confirmed: true after the signal.
 */
export async function stopProcess(pid: number, uid: number | null, deadlineMs: number): Promise<boolean> {
  const end = performance.now() + deadlineMs
  do {
    const pids = processesOf(pid, uid)
    if (pids.length === 0) return false
    for (const one of pids) signal(one, 'SIGSTOP')
    if (process.platform !== 'linux') return true
    // one that was forked meanwhile is seen here
    if (processesOf(pid, uid).every(allStopped)) return true
    await sleep(1)
  } while (performance.now() < end)
  return false
}

export function continueProcess(pid: number, uid: number | null): void {
  for (const one of processesOf(pid, uid)) signal(one, 'SIGCONT')
}

/** Where there is no group to kill: those that have left the process group, too. True when none is left in time. */
export async function killUser(uid: number, deadlineMs: number): Promise<boolean> {
  const end = performance.now() + deadlineMs
  for (;;) {
    const pids = processesOf(-1, uid)
    if (pids.length === 0) return true
    for (const pid of pids) signal(pid, 'SIGKILL')
    if (performance.now() >= end) return false
    await sleep(1)
  }
}

/** Where there is neither: all that it has started and that has not left the process tree, itself not included. */
export function descendantsOf(pid: number): number[] {
  if (process.platform !== 'linux') return []
  const parents = readdirSync('/proc')
    .filter((name) => /^\d/.test(name))
    .map((name): [number, number] => [Number(name), Number(fieldsOf(`/proc/${name}/stat`)[1])])
  const found = [pid]
  for (const one of found) found.push(...parents.flatMap(([child, parent]) => (parent === one ? [child] : [])))
  return found.slice(1)
}

export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch {
    // it is gone: its exit event says so
  }
}

/** Those that run; a zombie does not. */
function processesOf(pid: number, uid: number | null): number[] {
  if (uid === null) return pid > 0 ? [pid] : []
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d/.test(name) || statSync(`/proc/${name}`, { throwIfNoEntry: false })?.uid !== uid) return []
    return stateOf(`/proc/${name}/stat`) === 'Z' ? [] : [Number(name)]
  })
}

function allStopped(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every((task) => stateOf(`/proc/${pid}/task/${task}/stat`) === 'T')
  } catch {
    return false
  }
}

/** proc_pid_stat(5): the state follows the command's closing parenthesis. Gone is as good as Z. */
const stateOf = (file: string): string => fieldsOf(file)[0] ?? 'Z'

/** State, parent and what follows; nothing when it is gone. */
function fieldsOf(file: string): string[] {
  try {
    const stat = readFileSync(file, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch {
    return []
  }
}
