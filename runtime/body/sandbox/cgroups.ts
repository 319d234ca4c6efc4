/**
 * Invariant: a leaf holds everything that one program instance ever started, and nothing else; frozen and dead are said
 * only when the kernel says so (HANDLES 10).
 *
 * Control group v2 (kernel document admin-guide/cgroup-v2.rst): `cgroup.freeze`, `cgroup.kill`, `cgroup.events`. The limits
 * of memory and pids need their controllers; on a hybrid host those belong to v1, and limits are then `weak`.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFile, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'

export interface Limits {
  memoryMb: number
  pids: number
}

const CONTROLLERS = ['memory', 'pids']
/** What a killed body left behind has this long to end. */
const LEFTOVER_MS = 2000
/** The first rounds of waiting do not sleep. */
const BUSY_MS = 2

export class Cgroups {
  readonly base: string
  readonly limits: 'cgroup' | 'weak'
  readonly #limits: Limits
  readonly #own: string

  private constructor(own: string, base: string, limited: boolean, limits: Limits) {
    this.#own = join(own, 'cgroup.procs')
    this.base = base
    this.limits = limited ? 'cgroup' : 'weak'
    this.#limits = limits
  }

  /** null: there is no cgroup v2 that this process may divide. Ends what a killed body of this home left. */
  static async open(home: string, limits: Limits): Promise<Cgroups | null> {
    const own = ownGroup()
    if (own === null) return null
    const parent = basename(own) === 'body' ? dirname(own) : own
    const base = join(parent, `medulla-${createHash('sha256').update(home).digest('hex').slice(0, 16)}`)
    try {
      mkdirSync(base, { recursive: true })
      if (!existsSync(join(base, 'cgroup.freeze')) || !existsSync(join(base, 'cgroup.kill'))) return null
      const left = new Leaf(base)
      await left.kill(LEFTOVER_MS)
      for (const name of readdirSync(base)) if (existsSync(join(base, name, 'cgroup.procs'))) remove(join(base, name))
      left.thaw()
      // the kernel allows it in a group without processes of its own, or in the root
      const limited = enable(parent) && enable(base)
      return new Cgroups(own, base, limited, limits)
    } catch {
      return null
    }
  }

  /**
   * A move into a group waits for all processors (an RCU grace period, 13 ms), unless another one was under way just
   * before: this moves the body to where it is, beside other work, so that a child that comes next does not wait.
   */
  warm(): void {
    writeFile(this.#own, String(process.pid), () => {})
  }

  leaf(name: string): Leaf {
    const path = join(this.base, name)
    mkdirSync(path)
    if (this.limits === 'cgroup') {
      writeFileSync(join(path, 'memory.max'), String(this.#limits.memoryMb * 1024 * 1024))
      writeIfThere(join(path, 'memory.swap.max'), '0')
      writeFileSync(join(path, 'pids.max'), String(this.#limits.pids))
    }
    return new Leaf(path)
  }

  /** Everything of every program at once: for the emergency stop. */
  get all(): Leaf {
    return new Leaf(this.base)
  }

  close(): void {
    remove(this.base)
  }
}

export class Leaf {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  /** Where a child writes its pid before it starts anything else. */
  get procs(): string {
    return join(this.path, 'cgroup.procs')
  }

  /** True when the kernel has confirmed it in time. */
  async freeze(deadlineMs: number): Promise<boolean> {
    return writeIfThere(join(this.path, 'cgroup.freeze'), '1') && this.#until('frozen 1', deadlineMs)
  }

  thaw(): void {
    writeIfThere(join(this.path, 'cgroup.freeze'), '0')
  }

  /** SIGKILL to every process in it, frozen or not; true when none is left in time. */
  async kill(deadlineMs: number): Promise<boolean> {
    return !writeIfThere(join(this.path, 'cgroup.kill'), '1') || this.#until('populated 0', deadlineMs)
  }

  /** Whether the process is in this leaf; false when it is gone. */
  holds(pid: number): boolean {
    try {
      const line = readFileSync(`/proc/${pid}/cgroup`, 'utf8')
        .split('\n')
        .find((text) => text.startsWith('0::'))
      return line?.endsWith(`/${basename(dirname(this.path))}/${basename(this.path)}`) === true
    } catch {
      return false
    }
  }

  pids(): number[] {
    try {
      return readFileSync(this.procs, 'utf8').split('\n').filter(Boolean).map(Number)
    } catch {
      return []
    }
  }

  remove(): void {
    remove(this.path)
  }

  async #until(wanted: string, deadlineMs: number): Promise<boolean> {
    const began = performance.now()
    for (;;) {
      if (events(this.path).includes(wanted)) return true
      const waited = performance.now() - began
      if (waited >= deadlineMs) return false
      await (waited < BUSY_MS ? turn() : sleep(1))
    }
  }
}

/** A group that is gone has nobody in it, and nobody in it runs. */
function events(path: string): string[] {
  try {
    return readFileSync(join(path, 'cgroup.events'), 'utf8').split('\n')
  } catch {
    return ['populated 0', 'frozen 1']
  }
}

/** The folder of the group this process is in; mountinfo is in proc_pid_mountinfo(5). */
function ownGroup(): string | null {
  try {
    const mount = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .find((line) => line.includes(' - cgroup2 '))
      ?.split(' ')
    const path = readFileSync('/proc/self/cgroup', 'utf8')
      .split('\n')
      .find((line) => line.startsWith('0::'))
      ?.slice(3)
    const [, , , root, point] = mount ?? []
    if (path === undefined || root === undefined || point === undefined) return null
    return join(point, root === '/' ? path : path.slice(root.length))
  } catch {
    return null
  }
}

/** True when both controllers are handed on to the groups below. */
function enable(path: string): boolean {
  try {
    const there = readFileSync(join(path, 'cgroup.controllers'), 'utf8').split(/\s+/)
    if (!CONTROLLERS.every((name) => there.includes(name))) return false
    writeFileSync(join(path, 'cgroup.subtree_control'), CONTROLLERS.map((name) => `+${name}`).join(' '))
    return true
  } catch {
    return false
  }
}

function writeIfThere(path: string, text: string): boolean {
  try {
    writeFileSync(path, text)
    return true
  } catch {
    return false
  }
}

function remove(path: string): void {
  try {
    rmdirSync(path)
  } catch {
    // somebody is still ending in it: the next body of this home removes it
  }
}
