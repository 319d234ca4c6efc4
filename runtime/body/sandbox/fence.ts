/**
 * The weak fence, for hosts without cgroup v2: SIGSTOP and SIGKILL to processes found in /proc (HANDLES 10.8). On Linux a program
 * counts as stopped only when every thread of its processes was seen stopped.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

/**
 * SIGSTOP to the process, or to every process of the program's own user `uid`. True when all were seen stopped in time. Only
 * Linux can confirm that: elsewhere the result is true after the signal.
 */
export async function stopProcess(pid: number, uid: number | null, deadlineMs: number): Promise<boolean> {
  const end = performance.now() + deadlineMs
  do {
    const pids = processesOf(pid, uid)
    if (pids.length === 0) return false
    for (const one of pids) signal(one, 'SIGSTOP')
    if (process.platform !== 'linux') return true
    // This listing includes processes that were forked meanwhile.
    if (processesOf(pid, uid).every(allStopped)) return true
    await sleep(1)
  } while (performance.now() < end)
  return false
}

export function continueProcess(pid: number, uid: number | null): void {
  for (const one of processesOf(pid, uid)) signal(one, 'SIGCONT')
}

/** SIGKILL to every process of a user, also those that left the process group. True when none was left in time. */
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

/** The descendants of a process in the process tree, without the process itself. */
export function descendantsOf(pid: number): number[] {
  if (process.platform !== 'linux') return []
  const parents = readdirSync('/proc')
    .filter((name) => /^\d/.test(name))
    .map((name): [number, number] => [Number(name), Number(fieldsOf(`/proc/${name}/stat`)[1])])
  const found = [pid]
  for (const one of found) found.push(...parents.flatMap(([child, parent]) => (parent === one ? [child] : [])))
  return found.slice(1)
}

/** The child of a process's child, both among `pids`; null when there is none. */
export function grandchildOf(pid: number, pids: readonly number[]): number | null {
  const parents = new Map(pids.map((one) => [one, Number(fieldsOf(`/proc/${one}/stat`)[1])]))
  return pids.find((one) => parents.get(parents.get(one) ?? -1) === pid) ?? null
}

export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch {
    // The process has ended: its exit event says so.
  }
}

/** The process, or all processes of the user without zombies. */
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

/** The state follows the command's closing parenthesis (proc_pid_stat(5)). A process that is gone counts as a zombie. */
const stateOf = (file: string): string => fieldsOf(file)[0] ?? 'Z'

/** State, parent and the fields after them; empty when the process is gone. */
function fieldsOf(file: string): string[] {
  try {
    const stat = readFileSync(file, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch {
    return []
  }
}
