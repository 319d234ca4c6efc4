/**
 * Invariant: a program instance is started in a cell of its own, and what status and receipts say of fence, limits and
 * confinement is what its cell has (HANDLES 10, 13).
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Refusal } from '../../../deploy/shared/errors.ts'
import type { Board } from '../../../drivers/board/types.ts'
import type { Grant } from '../../../drivers/program/handle.ts'
import type { Init } from '../../sdk/wire.ts'
import { Cgroups, type Leaf } from './cgroups.ts'
import {
  type CanConfine,
  type ConfinedBy,
  canConfine,
  confine,
  LIMITED,
  LOADER,
  limitedBy,
  readable,
} from './confinement.ts'
import { dropDataFolder, openDataFolder } from './datafolder.ts'
import { PLACE } from './privateroot.ts'
import { programOf, type RunDir } from './rundir.ts'
import { Uids } from './uids.ts'

export const SANDBOXES = ['none', 'namespaces', 'bwrap'] as const
export type Sandbox = (typeof SANDBOXES)[number]

export const isSandbox = (text: string): text is Sandbox => SANDBOXES.some((known) => known === text)

/** HANDLES 10.3, 10.4 and 10.8: ms, before MEDULLA_TIME_SCALE. */
const DEADLINES = { freeze: 50, stop: 250, kill: 1000 }

/**
 * HANDLES 10.9: what a process of this Node reserves before it does anything, as this one had it when this was loaded (50 MB
 * with Node 20, 550 with Node 24), and as much again as stacks of threads take, which count and are not used.
 */
const RESERVED_MB = ownMb() + 64

/** VmData of proc(5); 0 where there is none, and no such limit either. */
function ownMb(): number {
  try {
    return Math.ceil(Number(/^VmData:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) / 1024)
  } catch {
    return 0
  }
}

export interface ChildSandbox {
  readonly leaf: Leaf | null
  /** All processes of this user are the program's; null: it runs as the runtime's own. */
  readonly uid: number | null
  readonly freezeMs: number
  readonly killMs: number
  /** SCHED_FIFO priority of a program that holds the hardware, 0 for none */
  readonly realtime: number
  /** argv of the child, the loader included */
  readonly command: readonly string[]
  /** the program file where the child sees it */
  readonly file: string
  readonly confine: Init['confine']
  /** The data folder where the child sees it, and where it is. */
  readonly data: { readonly inside: string; readonly folder: string; readonly mb: number }
  /** Files to open for the child, behind its grants. */
  readonly extra: readonly string[]
  /** Lets the child read what was extracted for it after it was started. */
  reveal(): void
  /** The instance is gone. */
  close(): void
}

export class Sandboxes {
  readonly sandbox: Sandbox
  readonly cgroups: Cgroups | null
  /** Why no program may be started here at all. */
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

  /** A simulated board needs no cell, and gets one when it is asked for; a real one refuses programs without (HANDLES 13.1). */
  static async open(home: string, board: Board, asked: Sandbox | undefined, scale: number): Promise<Sandboxes> {
    const real = board.model !== 'sim'
    const wanted = asked ?? (real ? 'namespaces' : 'none')
    const cgroups = real || wanted !== 'none' ? await Cgroups.open(home, board.limits) : null
    const able = ability(wanted, cgroups)
    const sandbox = able.ok ? wanted : 'none'
    const allowed = sandbox !== 'none' || ((asked ?? 'none') === 'none' && (!real || board.unconfined))
    const why = able.ok ? 'it was told not to' : able.why
    const fix = able.ok ? 'leave --sandbox away, or' : `${able.fix}, or`
    const problem = allowed
      ? null
      : new Refusal(
          'unconfined',
          `programs cannot be confined here: ${why}`,
          `${fix} write "unconfined": true into the board file`,
        )
    return new Sandboxes(sandbox, endpointSandbox(asked), cgroups, board, scale, problem, home)
  }

  /** Null: the endpoint runs as the body's user, and `why` says why when it should not. Release it when it is dead. */
  takeEndpoint(): { own: { sandbox: ConfinedBy; uid: number } | null; why: string | null; release(): void } {
    const { sandbox, why } = this.#endpoint
    if (sandbox === 'none') return { own: null, why, release: () => {} }
    const uid = this.#uids.take()
    return { own: { sandbox, uid }, why: null, release: () => this.#uids.release(uid) }
  }

  /** How long the kernel may take to confirm that everything is frozen. */
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
    const freezeMs = leaf === null ? DEADLINES.stop * this.#scale : this.freezeMs
    const shared = { leaf, freezeMs, killMs: DEADLINES.kill * this.#scale, realtime }
    const programDir = programOf(dir)
    const dataFolder = openDataFolder(this.#home, slot, this.sandbox !== 'none')
    const data = (inside: string) => ({ inside, folder: dataFolder, mb: limits.dataMb })
    if (this.sandbox === 'none') {
      const file = join(programDir, 'program.mjs')
      return {
        ...shared,
        command: plain(leaf, dataMb),
        uid: null,
        file,
        data: data(dataFolder),
        confine: null,
        extra: [],
        reveal: () => {},
        close: () => leaf?.remove(),
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
    const close = () => {
      this.#uids.release(uid)
      leaf?.remove()
    }
    return { ...shared, uid, ...confined, data: data(PLACE.data), reveal: () => readable(programDir), close }
  }

  /** Nothing runs in the slot, and nothing was ever committed there. */
  dropData(slot: string): Promise<void> {
    return dropDataFolder(this.#home, slot)
  }

  close(): void {
    this.cgroups?.close()
  }
}

/** On a simulated board, too: what reads the network is confined wherever it can be. */
function endpointSandbox(asked: Sandbox = 'namespaces'): { sandbox: Sandbox; why: string | null } {
  if (asked === 'none') return { sandbox: asked, why: null }
  const able = canConfine(asked)
  if (able.ok) return { sandbox: asked, why: null }
  // to whoever is not root there is nothing to say
  return { sandbox: 'none', why: process.getuid?.() === 0 ? `${able.why} (${able.fix})` : null }
}

function ability(wanted: Sandbox, cgroups: Cgroups | null): CanConfine {
  if (wanted === 'none') return { ok: true }
  if (wanted === 'bwrap' && cgroups === null) {
    // its monitor could be stopped, and the program would go on
    return { ok: false, why: 'bwrap needs cgroup v2 for the fence', fix: 'use --sandbox namespaces' }
  }
  return canConfine(wanted)
}

/** The pid stays: every command replaces itself by the next. */
function plain(leaf: Leaf | null, dataMb: number | null): string[] {
  const node = [process.execPath, LOADER]
  if (process.platform !== 'linux') return node
  // HANDOVER 3.6: the kernel ends the child with the body
  const bound = ['setpriv', '--pdeathsig', 'KILL', ...node]
  return ['sh', '-c', `${LIMITED}shift 2\nexec "$@"`, 'medulla', ...limitedBy(leaf?.procs ?? null, dataMb), ...bound]
}
