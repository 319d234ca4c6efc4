/**
 * Invariant: a leaf holds every process that one program instance started, and no other; `freeze` and `kill` return true only
 * when the kernel has confirmed it (HANDLES 10; test/runtime/body/sandbox/cgroups.test.ts).
 *
 * Control group v2 (kernel document admin-guide/cgroup-v2.rst): `cgroup.freeze`, `cgroup.kill`, `cgroup.events`. The limits
 * of memory and pids need their controllers; on a hybrid host those belong to v1, and limits are then `weak`.
 */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFile, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'

export interface CgroupLimits {
  memoryMb: number
  pids: number
}

const CONTROLLERS = ['memory', 'pids']
/** Processes that a killed body left behind have this long to end, in ms. */
const LEFTOVER_MS = 2000
/** Poll without sleeping for this long, in ms: most freezes are confirmed within it. */
const BUSY_MS = 2

export class Cgroups {
  readonly base: string
  readonly limits: 'cgroup' | 'weak'
  readonly #limits: CgroupLimits
  readonly #own: string

  private constructor(own: string, base: string, limited: boolean, limits: CgroupLimits) {
    this.#own = join(own, 'cgroup.procs')
    this.base = base
    this.limits = limited ? 'cgroup' : 'weak'
    this.#limits = limits
  }

  /** Null: this process may not create groups in cgroup v2. Ends processes that a killed body of this home left behind; with `keep` they go on. */
  static async open(home: string, limits: CgroupLimits, keep = false): Promise<Cgroups | null> {
    const own = ownGroup()
    if (own === null) return null
    const parent = basename(own) === 'body' ? dirname(own) : own
    const base = join(parent, `medulla-${createHash('sha256').update(home).digest('hex').slice(0, 16)}`)
    try {
      mkdirSync(base, { recursive: true })
      if (!existsSync(join(base, 'cgroup.freeze')) || !existsSync(join(base, 'cgroup.kill'))) return null
      if (!keep) await endAll(base)
      // The kernel allows this only in the root or in a group without processes of its own.
      const limited = enable(parent) && enable(base)
      return new Cgroups(own, base, limited, limits)
    } catch {
      return null
    }
  }

  /**
   * Moving a process into a group waits for an RCU grace period (13 ms), unless another move has just waited for one. So the
   * body moves itself to its own group in the background, and the next child does not wait.
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

  /** The group of all programs, for the emergency stop. */
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

  /** The file into which a child writes its pid before it starts anything else. */
  get procs(): string {
    return join(this.path, 'cgroup.procs')
  }

  /** True when the kernel confirmed the freeze in time. */
  async freeze(deadlineMs: number): Promise<boolean> {
    return writeIfThere(join(this.path, 'cgroup.freeze'), '1') && this.#until('frozen 1', deadlineMs)
  }

  thaw(): void {
    writeIfThere(join(this.path, 'cgroup.freeze'), '0')
  }

  /** SIGKILL to every process of the group, frozen or not; true when none was left in time. */
  async kill(deadlineMs: number): Promise<boolean> {
    return !writeIfThere(join(this.path, 'cgroup.kill'), '1') || this.#until('populated 0', deadlineMs)
  }

  /** Whether the process is in this leaf; false when the process has ended. */
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

async function endAll(base: string): Promise<void> {
  const left = new Leaf(base)
  await left.kill(LEFTOVER_MS)
  for (const name of readdirSync(base)) if (existsSync(join(base, name, 'cgroup.procs'))) remove(join(base, name))
  left.thaw()
}

/** A removed group counts as empty and frozen. */
function events(path: string): string[] {
  try {
    return readFileSync(join(path, 'cgroup.events'), 'utf8').split('\n')
  } catch {
    return ['populated 0', 'frozen 1']
  }
}

/** The folder of this process's own group; the format of mountinfo is in proc_pid_mountinfo(5). */
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

/** True when both controllers are enabled for the groups below. */
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
    // A process is still ending in it: the next body of this home removes it.
  }
}
