/**
 * Stops and ends programs for the guard. Invariant: `stop` and `end` take bounded time, and return true only when no program
 * can write any more (test/runtime/guard/guard.test.ts).
 *
 * Every call blocks: the guard has nothing else to do (kernel document admin-guide/cgroup-v2.rst).
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** ms, before MEDULLA_TIME_SCALE; `freeze` and `kill` are the 150 ms of HANDLES 14.2. */
export const DEADLINES = { freeze: 50, kill: 100, end: 2000 } as const

export class GuardedPrograms {
  readonly #cgroup: string | null
  readonly #scale: number
  /** Process group leaders, each with its start time, so that a recycled pid is left alone. */
  #leaders = new Map<number, string>()

  constructor(cgroup: string | null, scale: number) {
    this.#cgroup = cgroup
    this.#scale = scale
  }

  know(pids: readonly number[]): void {
    const now = pids.map((pid): [number, string | null] => [pid, this.#leaders.get(pid) ?? startTime(pid)])
    this.#leaders = new Map(now.filter((one): one is [number, string] => one[1] !== null))
  }

  /**
   * Stops every program: by a freeze, or SIGKILL without a control group. A killed program that still gives back its memory,
   * which takes 60 ms for 64 MiB, counts as stopped: it runs no code any more.
   */
  stop(): boolean {
    if (this.#cgroup === null) {
      this.#kill()
      return this.#until(() => this.#every(isExiting), DEADLINES.kill)
    }
    this.#write('cgroup.freeze', '1')
    if (this.#until(() => this.#says('frozen 1'), DEADLINES.freeze)) return true
    this.#write('cgroup.kill', '1')
    return this.#until(() => this.#says('populated 0'), DEADLINES.kill)
  }

  /** Ends every program. Then thaws the group, for the programs of the next body. */
  end(): boolean {
    if (this.#cgroup === null) {
      this.#kill()
      return this.#until(() => this.#every(() => false), DEADLINES.end)
    }
    this.#write('cgroup.kill', '1')
    const ended = this.#until(() => this.#says('populated 0'), DEADLINES.end)
    if (ended) this.#write('cgroup.freeze', '0')
    return ended
  }

  #kill(): void {
    for (const [pid, start] of this.#leaders) {
      if (startTime(pid) !== start) continue
      try {
        process.kill(-pid, 'SIGKILL')
      } catch {
        // The process has ended meanwhile.
      }
    }
  }

  #every(isHarmless: (pid: number) => boolean): boolean {
    return [...this.#leaders].every(([pid, start]) => startTime(pid) !== start || isHarmless(pid))
  }

  /** A removed group counts as empty. */
  #says(wanted: string): boolean {
    try {
      const events = readFileSync(join(this.#cgroup as string, 'cgroup.events'), 'utf8').split('\n')
      return events.includes(wanted) || events.includes('populated 0')
    } catch {
      return true
    }
  }

  #write(name: string, text: string): void {
    try {
      writeFileSync(join(this.#cgroup as string, name), text)
    } catch {
      // Not an error: `cgroup.events` shows the outcome.
    }
  }

  #until(done: () => boolean, deadlineMs: number): boolean {
    const end = performance.now() + deadlineMs * this.#scale
    for (;;) {
      if (done()) return true
      if (performance.now() >= end) return false
      Atomics.wait(NEVER, 0, 0, POLL_MS)
    }
  }
}

/** ms */
const POLL_MS = 0.2
const NEVER = new Int32Array(new SharedArrayBuffer(4))

/** Null: there is no such process, or it is dead and waits for its parent. */
function startTime(pid: number): string | null {
  try {
    const fields = statOf(`/proc/${pid}/stat`)
    const dead = 'ZX'.includes(fields[0] ?? '') && readdirSync(`/proc/${pid}/task`).length <= 1
    return dead ? null : (fields[19] ?? null)
  } catch {
    return null
  }
}

/** The kernel's PF_EXITING (include/linux/sched.h): the thread has begun to end, and never goes back to its code. */
const EXITING = 0x4

/** Whether no thread of the process runs its code, now or ever. */
function isExiting(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every((task) => isThreadExiting(`/proc/${pid}/task/${task}/stat`))
  } catch {
    // The process has ended meanwhile.
    return true
  }
}

function isThreadExiting(file: string): boolean {
  try {
    return (Number(statOf(file)[6]) & EXITING) !== 0
  } catch {
    return true
  }
}

/** Fields 3 (state), 4 and so on of proc_pid_stat(5): the flags are at index 6, the start time at 19. */
function statOf(file: string): string[] {
  const stat = readFileSync(file, 'utf8')
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
}
