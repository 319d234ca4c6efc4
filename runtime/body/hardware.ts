/**
 * Invariant: every handle of the board is open before anything runs, and on a real board a standby holds them, too
 * (HANDLES 3.1, 14.1). What the last body left with its standby is taken over, not opened.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Backend } from '../../drivers/backend.ts'
import type { Board } from '../../drivers/board.ts'
import { LinuxBackend } from '../../drivers/linux/backend.ts'
import { SimBackend } from '../../drivers/sim/backend.ts'
import { World } from '../../drivers/sim/world.ts'
import type { Logger } from '../log.ts'
import { Cells, type Sandbox } from './cells.ts'
import type { Child } from './child.ts'
import { Owner } from './owner.ts'
import { type Recovered, recover } from './recovery.ts'
import { Standby, type StandbyHandle } from './standby.ts'

/** Between two reports of values and sequence numbers to the standby. */
const KEEP_MS = 1000

export interface HardwareOptions {
  board: Board
  /** of the runtime */
  home: string
  /** private, in memory */
  folder: string
  sandbox: Sandbox | undefined
  scale: number
  nextFence(): number
  log: Logger
}

export class Hardware {
  readonly owner: Owner
  readonly cells: Cells
  /** A simulated board's. */
  readonly world: World | null
  #standby: Standby | null = null
  #timer: NodeJS.Timeout | null = null
  readonly #children = new Set<Child>()

  private constructor(owner: Owner, cells: Cells, world: World | null) {
    this.owner = owner
    this.cells = cells
    this.world = world
  }

  /** Throws HardwareError for a device that is not there, or is held by somebody else. */
  static async open({ board, home, folder, sandbox, scale, nextFence, log }: HardwareOptions): Promise<Hardware> {
    if (board.model === 'sim') {
      const world = new World({ wires: board.wires })
      const owner = new Owner(new SimBackend({ world, folder, links: join(home, 'serial') }), board, nextFence)
      for (const { name, link } of owner.all) if (link !== undefined) log.info(`${name}: its other end is ${link}`)
      return new Hardware(owner, await Cells.open(home, board, sandbox, scale), world)
    }
    const about = { model: board.model, chip: board.chip }
    const note: (level: 'info' | 'warn' | 'error', text: string) => void = (level, text) => log[level](text)
    const shared = join(home, 'standby')
    mkdirSync(shared, { recursive: true, mode: 0o700 })
    // it answers when it has ended what ran: only then are their groups removed
    const recovered = await recover({ folder: shared, about, handles: board.handles, note })
    const cells = await Cells.open(home, board, sandbox, scale)
    const backend = new LinuxBackend({ board, note: (text) => log.warn(text) })
    const owner = new Owner(backend, board, nextFence, recovered?.kept)
    const hardware = new Hardware(owner, cells, null)
    try {
      await hardware.#guard(backend, shared, about, board.realtime, note, recovered)
    } catch (error) {
      await hardware.close()
      throw error
    }
    return hardware
  }

  /** Where there is no control group the standby has to know whom it would have to end. */
  spawned(child: Child): void {
    if (this.#standby === null || this.cells.cgroups !== null) return
    this.#children.add(child)
    const tell = () => this.#standby?.programs([...this.#children].map(({ pid }) => pid))
    tell()
    void child.exited.then(() => {
      this.#children.delete(child)
      tell()
    })
  }

  /** HANDLES 6.9: safe levels first. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.owner.safeAll()
    await this.#standby?.end()
    this.owner.close()
    this.cells.close()
  }

  async #guard(
    backend: Backend,
    folder: string,
    about: unknown,
    realtime: number,
    note: (level: 'info' | 'warn' | 'error', text: string) => void,
    recovered: Recovered | null,
  ): Promise<void> {
    const handles = (): StandbyHandle[] =>
      [...this.owner.all].flatMap(({ name, id, entry }) => {
        const info = backend.info(name)
        return info === null ? [] : [{ name, id, entry, kept: info.kept }]
      })
    const cgroup = this.cells.cgroups?.base ?? null
    this.#standby = await Standby.start({ folder, about, handles: handles(), cgroup, realtime, note })
    recovered?.done()
    this.#timer = setInterval(() => this.#standby?.keep(handles()), KEEP_MS)
    this.#timer.unref()
  }
}
