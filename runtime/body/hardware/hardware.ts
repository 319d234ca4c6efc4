/**
 * Opens the hardware of a board. Invariant: every handle is open before a program runs, and on a real board a guard holds a
 * copy of it (HANDLES 3.1, 14.1; test/kernel/guard.rig.ts). Handles that the last body left with its guard are adopted.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Board } from '../../../drivers/board/types.ts'
import type { Backend, KeptHandle } from '../../../drivers/owner/backend.ts'
import { LinuxBackend } from '../../../drivers/owner/linux/backend.ts'
import { SimBackend } from '../../../drivers/owner/sim/backend.ts'
import { type SavedWorld, World } from '../../../drivers/owner/sim/world.ts'
import type { Latch } from '../../guard/latch.ts'
import type { StopInput } from '../../guard/wire.ts'
import type { Logger } from '../../log.ts'
import { runtimeUrl } from '../../places.ts'
import type { Child } from '../sandbox/child.ts'
import { onExit } from '../sandbox/reaper.ts'
import { type Sandbox, Sandboxes } from '../sandbox/sandboxes.ts'
import { type GuardedHandle, GuardLink, type SavedGuard } from './guard.ts'
import { HardwareOwner, type SavedOwner } from './owner.ts'
import { RecoveredHandles, recover } from './recovery.ts'

/** Time between two reports of values and sequence numbers to the guard. */
const KEEP_MS = 1000

export interface HardwareOptions {
  board: Board
  /** The home of the runtime. */
  home: string
  /** A private folder in memory. */
  folder: string
  sandbox: Sandbox | undefined
  scale: number
  nextFence(): number
  /** The open latch file. */
  latchFd: number
  /** The guard saw the input of the emergency stop at its level, and has stopped everything. */
  stopped(): void
  log: Logger
  /** What the runtime before has left, when this one replaces it. */
  saved?: SavedHardware | undefined
}

export interface SavedHardware {
  /** The open handles, with their descriptors. */
  readonly handles: readonly (readonly [name: string, kept: KeptHandle])[]
  readonly owner: SavedOwner
  /** Number of sandboxes that were made. */
  readonly sandboxes: number
  /** Null on a real board. */
  readonly world: SavedWorld | null
  readonly guard: SavedGuard | null
}

export class Hardware {
  readonly owner: HardwareOwner
  readonly sandboxes: Sandboxes
  /** Null on a real board. */
  readonly world: World | null
  #guard: GuardLink | null = null
  /** An emergency stop that a guard latched before this body was ready. */
  latch: Latch | null = null
  #timer: NodeJS.Timeout | null = null
  readonly #children = new Set<Child>()
  readonly #backend: Backend

  private constructor(owner: HardwareOwner, backend: Backend, sandboxes: Sandboxes, world: World | null) {
    this.owner = owner
    this.#backend = backend
    this.sandboxes = sandboxes
    this.world = world
  }

  /** Throws HardwareError for a device that is missing, or in use by another process. */
  static async open(options: HardwareOptions): Promise<Hardware> {
    const { board, home, folder, sandbox, scale, nextFence, log, saved } = options
    const left = saved === undefined ? undefined : new Map(saved.handles)
    const count = saved?.sandboxes ?? null
    if (board.model === 'sim') {
      const world = new World({ wires: board.wires, ...(saved?.world ? { saved: saved.world } : {}) })
      const backend = new SimBackend({ world, folder, links: join(home, 'serial'), sockets: socketsOf(home) })
      const owner = new HardwareOwner(backend, board, nextFence, left)
      if (saved !== undefined) owner.restore(saved.owner)
      for (const { name, link } of owner.all) if (link !== undefined) log.info(`${name}: its other end is ${link}`)
      return new Hardware(owner, backend, await Sandboxes.open(home, board, sandbox, scale, count), world)
    }
    const note: (level: 'info' | 'warn' | 'error', text: string) => void = (level, text) => log[level](text)
    const shared = join(home, 'guard')
    mkdirSync(shared, { recursive: true, mode: 0o700 })
    // Before Sandboxes.open, which removes the programs' groups: the old guard answers once it has ended the programs.
    const recovered =
      saved?.guard != null && left !== undefined
        ? RecoveredHandles.left(saved.guard.lifeline, left)
        : await recover({ folder: shared, about: aboutOf(board), handles: board.handles, note })
    const sandboxes = await Sandboxes.open(home, board, sandbox, scale, count)
    const waveThread = runtimeUrl('../drivers/owner/linux/wavethread.js')
    const backend = new LinuxBackend({
      board,
      sockets: socketsOf(home),
      waveThread,
      note: (text) => log.warn(text),
    })
    const owner = new HardwareOwner(backend, board, nextFence, left ?? recovered?.kept)
    if (saved !== undefined) owner.restore(saved.owner)
    const hardware = new Hardware(owner, backend, sandboxes, null)
    try {
      await hardware.#startGuard(shared, options, note, recovered)
    } catch (error) {
      await hardware.close()
      throw error
    }
    return hardware
  }

  /** Without control groups the guard has to know the pids of the programs. */
  spawned(child: Child): void {
    if (this.#guard === null || this.sandboxes.cgroups !== null) return
    this.#children.add(child)
    const tell = () => this.#guard?.programs([...this.#children].map(({ pid }) => pid))
    tell()
    void child.exited.then(() => {
      this.#children.delete(child)
      tell()
    })
  }

  /** Asks the guard to stop everything (HANDLES 6.7). False when the board has no guard, or the guard does not answer. */
  async stop(reason: string): Promise<boolean> {
    return (await this.#guard?.stop(reason)) ?? false
  }

  /** False when the guard sees the input of the emergency stop at its level. */
  async release(): Promise<boolean> {
    return (await this.#guard?.release()) ?? true
  }

  /** Handles that could not be kept open while the runtime is replaced: their driver ends with the process. */
  get lostHandles(): string[] {
    if (this.world !== null) return []
    return [...this.owner.all].map(({ name }) => name).filter((name) => this.#backend.info(name)?.kept.fds.length === 0)
  }

  /** For the runtime that replaces this one; null while something is not written yet. */
  save(): SavedHardware | null {
    const handles = [...this.owner.all].flatMap(({ name }): [string, KeptHandle][] => {
      const info = this.#backend.info(name)
      return info === null ? [] : [[name, info.kept]]
    })
    const guard = this.#guard?.save() ?? null
    if (this.#guard !== null && guard === null) return null
    const { owner, sandboxes, world } = this
    return { handles, owner: owner.save(), sandboxes: sandboxes.count, world: world?.save() ?? null, guard }
  }

  /** The guard waits this long for the next runtime's pulse (HANDOVER 18.4). */
  pause(forMs: number): void {
    this.#guard?.pause(forMs)
  }

  /** From now on the guard kills this body when it hangs (HANDLES 14.11). */
  watchBody(): void {
    this.#guard?.watchBody()
  }

  /** Drives the safe levels before it closes the hardware (HANDLES 6.9). */
  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.owner.safeAll()
    await this.#guard?.end()
    this.owner.close()
    this.sandboxes.close()
  }

  async #startGuard(
    folder: string,
    { board, latchFd, stopped, saved }: HardwareOptions,
    note: (level: 'info' | 'warn' | 'error', text: string) => void,
    recovered: RecoveredHandles | null,
  ): Promise<void> {
    const handles = (): GuardedHandle[] =>
      [...this.owner.all].flatMap(({ name, id, entry }) => {
        const info = this.#backend.info(name)
        return info === null ? [] : [{ name, id, entry, kept: info.kept }]
      })
    this.latch = recovered?.latch ?? null
    this.#guard = await GuardLink.start({
      folder,
      about: aboutOf(board),
      handles: handles(),
      cgroup: this.sandboxes.cgroups?.base ?? null,
      realtime: board.realtime,
      stopInput: stopInputOf(board),
      latchFd,
      bodyMs: board.timing.bodyMs,
      stopped: (latch) => {
        this.latch ??= latch
        stopped()
      },
      note,
    })
    this.latch ??= (await recovered?.done()) ?? null
    if (saved?.guard) onExit(saved.guard.pid)
    this.#timer = setInterval(() => this.#guard?.keep(handles()), KEEP_MS)
    this.#timer.unref()
  }
}

/** The folder of the listening UNIX sockets (HANDLES 17.2). */
const socketsOf = (home: string): string => join(home, 'sockets')

/** A body can adopt descriptors only from a board of the same model and chip. */
const aboutOf = ({ model, chip }: Board) => ({ model, chip })

function stopInputOf({ estop, handles }: Board): StopInput | null {
  if (estop === undefined) return null
  const entry = handles[estop.input]
  const encoding = entry?.kind === 'input' && entry.driver === 'sysfs' ? 'level' : 'line'
  return { name: estop.input, level: estop.level, encoding }
}
