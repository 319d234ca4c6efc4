/**
 * Makes the sandbox of each program instance: control group, user, root, filter and limits (HANDLES 10, 13). `fence`, `limits`
 * and `confined`, for status and receipts, say what every sandbox has.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Refusal } from '../../../deploy/shared/errors.ts'
import type { Board } from '../../../drivers/board/types.ts'
import type { Grant } from '../../../drivers/program/handle.ts'
import type { Init } from '../../sdk/wire.ts'
import { Cgroups, Leaf } from './cgroups.ts'
import {
  type CanConfine,
  type ConfinedBy,
  canConfine,
  confine,
  LIMIT_SCRIPT,
  LOADER,
  limitParameters,
  NODE_FLAGS,
  readable,
} from './confinement.ts'
import { dropDataFolder, openDataFolder } from './datafolder.ts'
import { PATH_INSIDE } from './privateroot.ts'
import { programOf, type RunDir } from './rundir.ts'
import { Uids } from './uids.ts'

export const SANDBOXES = ['none', 'namespaces', 'bwrap'] as const
export type Sandbox = (typeof SANDBOXES)[number]

export const isSandbox = (text: string): text is Sandbox => SANDBOXES.some((known) => known === text)

/** ms, before MEDULLA_TIME_SCALE: freeze of a control group, stop without one, kill (HANDLES 10.3, 10.8, 10.4). */
const DEADLINES = { freeze: 50, stop: 250, kill: 1000 }

/**
 * Added to `limits.memoryMb` for RLIMIT_DATA (HANDLES 10.9): what this version of Node reserves at its start, measured on this
 * process (50 MB with Node 20, 550 with Node 24), and 64 MB for the stacks of threads, which count and are not used.
 */
const RESERVED_MB = ownMb() + 64

/** VmData of proc(5) in MB; 0 where there is no /proc, and so no such limit either. */
function ownMb(): number {
  try {
    return Math.ceil(Number(/^VmData:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) / 1024)
  } catch {
    return 0
  }
}

/**
 * What SIGINT does to a child besides the printing of its stack (HANDOVER 4.11). `harmless`: nothing. `monitored`: nothing, and
 * the child's pid is that of bwrap's monitor. `fatal`: the child ends. `unknown`: an earlier runtime started it.
 */
export type Tracing = 'harmless' | 'monitored' | 'fatal' | 'unknown'

/** What a child needs of its sandbox once it runs. */
export interface SandboxOfChild {
  readonly leaf: Leaf | null
  /** The instance's own user; null: it runs as the runtime's user. */
  readonly uid: number | null
  readonly freezeMs: number
  readonly killMs: number
  /** SCHED_FIFO priority of a program that drives the hardware; 0: none. */
  readonly realtime: number
  readonly tracing: Tracing
  /** The data folder: `inside` as the child sees it, `folder` on the host; `mb` is its limit. */
  readonly data: { readonly inside: string; readonly folder: string; readonly mb: number }
  /** To be called when the instance has ended. */
  close(): void
  /** For {@link Sandboxes.adopt} in the next runtime. */
  save(): SavedSandbox
}

export interface SavedSandbox {
  /** The folder of its control group. */
  readonly leaf: string | null
  readonly uid: number | null
  readonly data: SandboxOfChild['data']
  /** Absent: left by a runtime that did not trace. Both sides read a format without it, so the format is the same. */
  readonly tracing?: Tracing
}

export interface ChildSandbox extends SandboxOfChild {
  /** argv of the child, the loader included. */
  readonly command: readonly string[]
  /** The program file, as the child sees it. */
  readonly file: string
  readonly confine: Init['confine']
  /** Files to open for the child, after its grants in the descriptor table. */
  readonly extra: readonly string[]
  /** Makes the program readable for the child's user, once it is extracted. */
  reveal(): void
}

export class Sandboxes {
  readonly sandbox: Sandbox
  readonly cgroups: Cgroups | null
  /** Why no program may be started on this robot; null: programs may be started. */
  readonly problem: Refusal | null
  /** How the endpoint is confined (HANDOVER 8.13), and why it is not. */
  readonly #endpoint: { sandbox: Sandbox; why: string | null }
  readonly #board: Board
  readonly #home: string
  readonly #scale: number
  readonly #uids = new Uids()
  #count = 0

  private constructor(
    sandbox: Sandbox,
    endpoint: { sandbox: Sandbox; why: string | null },
    cgroups: Cgroups | null,
    board: Board,
    scale: number,
    problem: Refusal | null,
    home: string,
  ) {
    this.#home = home
    this.sandbox = sandbox
    this.#endpoint = endpoint
    this.cgroups = cgroups
    this.#board = board
    this.#scale = scale
    this.problem = problem
  }

  /**
   * `keeping`: the count of the last runtime, whose programs go on (HANDOVER 18); null: its programs are ended.
   *
   * On a real board programs must be confined, unless the board file allows otherwise; on a simulated one only if `asked` (HANDLES 13.1).
   */
  static async open(
    home: string,
    board: Board,
    asked: Sandbox | undefined,
    scale: number,
    keeping: number | null = null,
  ): Promise<Sandboxes> {
    const real = board.model !== 'sim'
    const wanted = asked ?? (real ? 'namespaces' : 'none')
    const cgroups = real || wanted !== 'none' ? await Cgroups.open(home, board.limits, keeping !== null) : null
    const able = ability(wanted, cgroups)
    const sandbox = able.ok ? wanted : 'none'
    const allowed = sandbox !== 'none' || ((asked ?? 'none') === 'none' && (!real || board.unconfined))
    const why = able.ok ? 'the runtime was started with --sandbox none' : able.why
    const fix = able.ok ? 'leave --sandbox away, or' : `${able.fix}, or`
    const problem = allowed
      ? null
      : new Refusal(
          'unconfined',
          `programs cannot be confined here: ${why}`,
          `${fix} write "unconfined": true into the board file`,
        )
    const sandboxes = new Sandboxes(sandbox, endpointSandbox(asked), cgroups, board, scale, problem, home)
    sandboxes.#count = keeping ?? 0
    return sandboxes
  }

  /** `own` null: the endpoint runs as the body's user; `why` then says why, if it should not. `release` once it has ended. */
  takeEndpoint(): { own: { sandbox: ConfinedBy; uid: number } | null; why: string | null; release(): void } {
    const { sandbox, why } = this.#endpoint
    if (sandbox === 'none') return { own: null, why, release: () => {} }
    const uid = this.#uids.take()
    return { own: { sandbox, uid }, why: null, release: () => this.#uids.release(uid) }
  }

  /** How long the kernel may take to confirm a freeze, in ms. */
  get freezeMs(): number {
    return DEADLINES.freeze * this.#scale
  }

  get confined(): boolean {
    return this.sandbox !== 'none'
  }

  get fence(): 'cgroup' | 'weak' {
    return this.cgroups === null ? 'weak' : 'cgroup'
  }

  get limits(): 'cgroup' | 'weak' {
    return this.cgroups?.limits ?? 'weak'
  }

  make(slot: string, dir: RunDir, grants: readonly Grant[]): ChildSandbox {
    if (this.problem !== null) throw this.problem
    const { realtime, limits, network } = this.#board
    const dataMb = this.limits === 'cgroup' ? null : limits.memoryMb + RESERVED_MB
    const leaf = this.cgroups?.leaf(`${slot}-${++this.#count}`) ?? null
    const programDir = programOf(dir)
    const dataFolder = openDataFolder(this.#home, slot, this.sandbox !== 'none')
    const data = (inside: string) => ({ inside, folder: dataFolder, mb: limits.dataMb })
    if (this.sandbox === 'none') {
      return {
        ...this.#ofChild(leaf, null, data(dataFolder), realtime, 'fatal'),
        command: plain(leaf, dataMb),
        file: join(programDir, 'program.mjs'),
        confine: null,
        extra: [],
        reveal: () => {},
      }
    }
    const uid = this.#uids.take()
    const confined = confine({
      sandbox: this.sandbox,
      uid,
      leafProcs: leaf?.procs ?? null,
      folder: dir.path,
      programDir,
      loader: LOADER,
      grants,
      network: network.includes(slot),
      pids: limits.pids,
      dataMb,
      tmpMb: limits.tmpMb,
      dataFolder,
    })
    const tracing = this.sandbox === 'bwrap' ? 'monitored' : 'harmless'
    const ofChild = this.#ofChild(leaf, uid, data(PATH_INSIDE.data), realtime, tracing)
    return { ...ofChild, ...confined, reveal: () => readable(programDir) }
  }

  /** The sandbox of a child that the last runtime left running. */
  adopt({ leaf, uid, data, tracing = 'unknown' }: SavedSandbox): SandboxOfChild {
    if (uid !== null) this.#uids.adopt(uid)
    return this.#ofChild(leaf === null ? null : new Leaf(leaf), uid, data, this.#board.realtime, tracing)
  }

  #ofChild(
    leaf: Leaf | null,
    uid: number | null,
    data: SandboxOfChild['data'],
    realtime: number,
    tracing: Tracing,
  ): SandboxOfChild {
    return {
      ...{ leaf, uid, data, realtime, tracing },
      freezeMs: leaf === null ? DEADLINES.stop * this.#scale : this.freezeMs,
      killMs: DEADLINES.kill * this.#scale,
      close: () => {
        if (uid !== null) this.#uids.release(uid)
        leaf?.remove()
      },
      save: () => ({ leaf: leaf?.path ?? null, uid, data, tracing }),
    }
  }

  /** Number of sandboxes made, which names the next one's control group. */
  get count(): number {
    return this.#count
  }

  /** For a slot in which no program runs and none was ever committed. */
  dropData(slot: string): Promise<void> {
    return dropDataFolder(this.#home, slot)
  }

  close(): void {
    this.cgroups?.close()
  }
}

/** The endpoint is confined on a simulated board, too, because it reads the network. */
function endpointSandbox(asked: Sandbox = 'namespaces'): { sandbox: Sandbox; why: string | null } {
  if (asked === 'none') return { sandbox: asked, why: null }
  const able = canConfine(asked)
  if (able.ok) return { sandbox: asked, why: null }
  // Without root nobody expects it to be confined, so there is no warning.
  return { sandbox: 'none', why: process.getuid?.() === 0 ? `${able.why} (${able.fix})` : null }
}

function ability(wanted: Sandbox, cgroups: Cgroups | null): CanConfine {
  if (wanted === 'none') return { ok: true }
  if (wanted === 'bwrap' && cgroups === null) {
    // Without a control group only bwrap's monitor would be stopped, and the program would go on.
    return { ok: false, why: 'bwrap needs cgroup v2 for the fence', fix: 'use --sandbox namespaces' }
  }
  return canConfine(wanted)
}

/** An unconfined child. Every command replaces itself by the next, so that the pid stays. */
function plain(leaf: Leaf | null, dataMb: number | null): string[] {
  const node = [process.execPath, ...NODE_FLAGS, LOADER]
  if (process.platform !== 'linux') return node
  // The kernel ends the child when the body ends (HANDOVER 3.6).
  const bound = ['setpriv', '--pdeathsig', 'KILL', ...node]
  return [
    'sh',
    '-c',
    `${LIMIT_SCRIPT}shift 3\nexec "$@"`,
    'medulla',
    ...limitParameters(leaf?.procs ?? null, dataMb),
    ...bound,
  ]
}
