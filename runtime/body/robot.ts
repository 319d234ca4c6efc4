/**
 * Invariant: everything that must survive a restart is in the home, and everything that touches a pin is in the owner.
 *
 * Puts the body together: home, operators, store, receipts, board, owner, and one Slot for each slot name.
 */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { PinChange, StatusReport } from '../../deploy/api.ts'
import { Refusal } from '../../deploy/errors.ts'
import { type Board, parseBoard, type Timing } from '../../drivers/board.ts'
import { BoardError } from '../../drivers/errors.ts'
import { SimBackend } from '../../drivers/sim/backend.ts'
import { World } from '../../drivers/sim/world.ts'
import { Bundles } from '../store/bundles.ts'
import { Door } from '../store/door.ts'
import { type Home, openHome } from '../store/home.ts'
import { loadOperators, type Operators } from '../store/operators.ts'
import { Receipts } from '../store/receipts.ts'
import { Slots } from '../store/slots.ts'
import type { SlotEnv } from './env.ts'
import type { BodyOptions } from './options.ts'
import { Owner } from './owner.ts'
import { RunDirs } from './rundir.ts'
import { stored } from './runnables.ts'
import { Slot } from './slot.ts'

/** HANDOVER 2.5 */
const MAX_SLOTS = 16

export class Robot {
  readonly options: BodyOptions
  readonly home: Home
  readonly board: Board
  readonly bundles: Bundles
  readonly slots: Slots
  readonly receipts: Receipts
  readonly door: Door
  readonly owner: Owner
  readonly #world: World
  readonly #dirs: RunDirs
  readonly #running = new Map<string, Slot>()
  readonly #began = performance.now()
  operators: Operators

  private constructor(parts: {
    options: BodyOptions
    home: Home
    board: Board
    operators: Operators
    bundles: Bundles
    slots: Slots
    receipts: Receipts
    door: Door
    world: World
    dirs: RunDirs
  }) {
    this.options = parts.options
    this.home = parts.home
    this.board = parts.board
    this.operators = parts.operators
    this.bundles = parts.bundles
    this.slots = parts.slots
    this.receipts = parts.receipts
    this.door = parts.door
    this.#world = parts.world
    this.#dirs = parts.dirs
    const backend = new SimBackend({ world: parts.world, folder: join(parts.dirs.base, 'handles') })
    this.owner = new Owner(backend, parts.board, () => parts.slots.nextFence())
    for (const handle of this.owner.all) {
      handle.onEdge(({ level, ns, seqno }) => {
        const slot = this.owner.holder(handle.name)
        if (slot !== null) this.#running.get(slot)?.edge({ id: handle.id, level, ns: String(ns), seqno })
      })
    }
  }

  static async open(options: BodyOptions): Promise<Robot> {
    const home = await openHome(options.home, options.name === undefined ? {} : { name: options.name })
    try {
      const board = await loadBoard(options, home.dir)
      if (!options.sim || board.model !== 'sim') {
        const message = `this release drives simulated boards only, and the board file says ${board.model}`
        throw new Refusal('bad-board', message, 'write "model": "sim", and start it with medulla sim')
      }
      const operators = await loadOperators(home)
      const door = new Door()
      const bundles = await Bundles.open(join(home.dir, 'store'), door)
      const slots = await Slots.open(home)
      const receipts = await Receipts.open(home)
      const world = new World({ wires: board.wires })
      const dirs = new RunDirs(home.dir)
      const robot = new Robot({ options, home, board, operators, bundles, slots, receipts, door, world, dirs })
      for (const problem of [...slots.problems, ...receipts.problems])
        robot.slot('main').log.add('runtime', problem, 0, 'warn')
      return robot
    } catch (error) {
      await home.close()
      throw error
    }
  }

  async reloadOperators(): Promise<void> {
    this.operators = await loadOperators(this.home)
  }

  /** Starts what ran when the runtime ended. */
  begin(): void {
    for (const name of this.slots.names()) {
      const { current, stopped } = this.slots.get(name)
      if (current !== null && !stopped) this.slot(name).begin()
    }
    this.#dirs.prepare()
  }

  slot(name: string): Slot {
    const known = this.#running.get(name)
    if (known !== undefined) return known
    if (this.#running.size >= MAX_SLOTS) throw new Refusal('too-large', `this robot has ${MAX_SLOTS} slots already`)
    const slot = new Slot(name, this.#env)
    this.#running.set(name, slot)
    return slot
  }

  knows(name: string): boolean {
    return this.#running.has(name)
  }

  status(): StatusReport {
    return {
      name: this.home.name,
      id: this.home.id,
      version: this.options.version,
      board: this.board.name ?? this.board.model,
      simulated: this.options.sim,
      fence: 'weak',
      confined: false,
      uptimeMs: Math.round(performance.now() - this.#began),
      head: this.receipts.head(),
      slots: [...this.#running.values()].map((slot) => {
        const { previous } = this.slots.get(slot.name)
        return { ...slot.status(), ...(previous === null ? {} : { previous }) }
      }),
    }
  }

  /** The present value of each handle that has one. */
  pins(): PinChange[] {
    const ns = String(process.hrtime.bigint())
    return [...this.owner.all].flatMap((handle) => {
      const value = handle.value()
      const slot = this.owner.holder(handle.name)
      if (value === undefined) return []
      return [{ name: handle.name, kind: handle.kind, value, ns, fence: 0, ...(slot === null ? {} : { slot }) }]
    })
  }

  /** Every write and every level of the simulated world, with whether it changed anything and whether it was accepted. */
  onChange(listener: (change: PinChange & { changed: boolean; accepted: boolean }) => void): () => void {
    return this.#world.onChange(({ name, kind, value, ns, fence, changed, accepted }) => {
      const slot = this.owner.holder(name)
      const pin = { name, kind, value, ns: String(ns), fence, ...(slot === null ? {} : { slot }) }
      listener({ ...pin, changed, accepted })
    })
  }

  async close(): Promise<void> {
    await Promise.all([...this.#running.values()].map((slot) => slot.close()))
    this.owner.close()
    await this.door.close()
    await this.slots.close()
    await this.receipts.close()
    this.#dirs.close()
    await this.home.close()
  }

  #edges(slot: string, fromNs: number, toNs: number): number | null {
    const { trace } = this.#world
    const recent = trace.recent()
    // what is no longer kept cannot be counted
    if (trace.count > recent.length && Number(recent[0]?.ns ?? 0) > fromNs) return null
    const inside = ({ ns }: { ns: bigint }) => Number(ns) > fromNs && Number(ns) < toNs
    return recent
      .filter((change) => change.changed && change.kind !== 'input' && inside(change))
      .filter(({ name }) => this.owner.holder(name) === slot).length
  }

  get #env(): SlotEnv {
    const { slots, bundles, receipts, owner } = this
    return {
      owner,
      dirs: this.#dirs,
      timing: scaled(this.board.timing),
      realtime: this.board.realtime,
      edges: (slot, fromNs, toNs) => this.#edges(slot, fromNs, toNs),
      receipt: (fields) => receipts.append(fields),
      commit: async (slot, runnable, raiseFloor) => {
        const { program, digest } = runnable
        const counter = raiseFloor ? runnable.counter : slots.floor('program', program)
        await slots.commit(slot, digest, { kind: 'program', program, counter })
        // committed is committed: old bundles may stay a while
        const stays = (error: unknown) => this.slot(slot).log.add('runtime', `not pruned: ${String(error)}`, 0, 'warn')
        await bundles.prune(slots.digests()).catch(stays)
      },
      undone: (digest) => slots.rolledBack(digest),
      setStopped: async (slot, stopped) => {
        await slots.setStopped(slot, stopped)
      },
      saveCheckpoint: (slot, checkpoint) => slots.saveCheckpoint(slot, checkpoint),
      loadCheckpoint: async (slot, runnable) => {
        const checkpoint = await slots.loadCheckpoint(slot).catch(() => null)
        return checkpoint?.program === runnable.program && runnable.manifest.state !== null ? checkpoint : null
      },
      committed: async (slot) => {
        const { current, previous } = slots.get(slot)
        for (const digest of [current, previous]) {
          if (digest === null) continue
          try {
            const runnable = await stored(bundles, digest)
            if (digest !== current) await slots.fallBack(slot, digest)
            return runnable
          } catch (error) {
            if (!(error instanceof Refusal)) throw error
            this.slot(slot).log.add('runtime', `${error.code}: ${error.message}`, 0, 'error')
          }
        }
        return null
      },
    }
  }
}

async function loadBoard(options: BodyOptions, home: string): Promise<Board> {
  const file = options.board ?? join(home, 'board.json')
  if (!existsSync(file)) {
    throw new Refusal(
      'bad-board',
      `there is no board file ${file}`,
      'medulla sim writes a simulated one into a new home',
    )
  }
  try {
    return parseBoard(await readFile(file, 'utf8'), file)
  } catch (error) {
    if (error instanceof BoardError) throw new Refusal('bad-board', error.message, error.fix)
    throw error
  }
}

/** MEDULLA_TIME_SCALE stretches every deadline, for slow machines (HANDOVER 10.2). */
function scaled(timing: Timing): Timing {
  const scale = Number(process.env.MEDULLA_TIME_SCALE) || 1
  const entries = Object.entries(timing).map(([key, value]) => [key, key.endsWith('Ms') ? value * scale : value])
  return Object.fromEntries(entries) as Timing
}
