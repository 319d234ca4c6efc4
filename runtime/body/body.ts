/**
 * Puts the body together: home, operators, store, receipts, board, owner, and one Slot for each slot name. Whatever must survive
 * a restart is in the home; whatever drives a pin goes through the owner.
 */
import { join } from 'node:path'
import {
  type CounterRange,
  DEFAULT_SLOT,
  type PinChange,
  type Receipt,
  type ReleaseInfo,
  type StatusReport,
} from '../../deploy/shared/api.ts'
import { highestCounter, unfit } from '../../deploy/shared/bundle/policy.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { timeScale } from '../../deploy/shared/timescale.ts'
import type { Board } from '../../drivers/board/types.ts'
import { HardwareError } from '../../drivers/errors.ts'
import { createLog } from '../log.ts'
import { isClockSynchronised } from '../plumbing/clock.ts'
import { WIRE } from '../sdk/wire.ts'
import { Bundles } from '../store/bundles.ts'
import { ConfigFile } from '../store/config.ts'
import { type Home, openHome } from '../store/home.ts'
import { loadOperators, type Operators } from '../store/operators.ts'
import { Receipts } from '../store/receipts.ts'
import { Slots } from '../store/slots.ts'
import { BundleVerifier } from '../store/verifier.ts'
import { loadBoard, scaled } from './hardware/boardfile.ts'
import { Hardware } from './hardware/hardware.ts'
import type { Owner } from './hardware/owner.ts'
import { Pins } from './hardware/pins.ts'
import type { BodyOptions } from './options.ts'
import { RobotConfig } from './orders/config.ts'
import { OperatorList } from './orders/operatorlist.ts'
import { OrderDesk } from './orders/orders.ts'
import { ReceiptLimit } from './orders/receiptlimit.ts'
import { type LaunchContext, launch } from './sandbox/launcher.ts'
import { RunDirs } from './sandbox/rundir.ts'
import type { Sandboxes } from './sandbox/sandboxes.ts'
import { Spares } from './sandbox/spares.ts'
import { type Entry, plainEntry } from './slot/entries.ts'
import type { SlotEnv } from './slot/env.ts'
import { stored } from './slot/runnables.ts'
import type { Runnable } from './slot/running.ts'
import { Slot } from './slot/slot.ts'
import { checkpointOf } from './slot/stateowner.ts'
import { EmergencyStop } from './stop/emergency.ts'
import { StopLatch } from './stop/stops.ts'

/** Most slots of a robot (HANDOVER 2.5). */
const MAX_SLOTS = 16

export class Body {
  readonly options: BodyOptions
  readonly home: Home
  readonly board: Board
  readonly bundles: Bundles
  readonly slots: Slots
  readonly receipts: Receipts
  readonly door: BundleVerifier
  readonly owner: Owner
  readonly sandboxes: Sandboxes
  readonly stops: StopLatch
  readonly emergency: EmergencyStop
  readonly orders: OrderDesk
  readonly pins: Pins
  readonly #hardware: Hardware
  readonly spares: Spares
  readonly #dirs: RunDirs
  readonly #launchContext: LaunchContext
  readonly #running = new Map<string, Slot>()
  readonly #began = performance.now()
  readonly #report = createLog('body')
  readonly #watchers = new Set<(slot: Slot) => void>()
  readonly #limit: ReceiptLimit
  readonly operators: OperatorList
  readonly config: RobotConfig

  private constructor(parts: {
    options: BodyOptions
    home: Home
    board: Board
    operators: Operators
    bundles: Bundles
    slots: Slots
    receipts: Receipts
    door: BundleVerifier
    stops: StopLatch
    hardware: Hardware
    dirs: RunDirs
    config: ConfigFile
  }) {
    this.options = parts.options
    this.home = parts.home
    this.board = parts.board
    this.operators = new OperatorList(parts.home, parts.operators, (entry) => this.record(entry))
    this.config = new RobotConfig(parts.config, this)
    this.bundles = parts.bundles
    this.slots = parts.slots
    this.receipts = parts.receipts
    this.door = parts.door
    this.#hardware = parts.hardware
    this.sandboxes = parts.hardware.sandboxes
    this.owner = parts.hardware.owner
    this.stops = parts.stops
    this.#limit = new ReceiptLimit({
      write: (entry) => this.#append(entry),
      known: (fingerprint) => this.operators.now.byFingerprint(fingerprint) !== null,
      scale: timeScale(),
    })
    this.orders = new OrderDesk(parts.home.id, () => this.operators.now)
    this.emergency = new EmergencyStop({
      board: this.board,
      stops: parts.stops,
      hardware: parts.hardware,
      slots: this.#running,
      began: () => this.orders.stopped(null),
      record: (entry) => this.record(entry),
      log: this.#report,
    })
    this.pins = new Pins(parts.hardware)
    this.#dirs = parts.dirs
    this.#launchContext = {
      owner: this.owner,
      timing: scaled(this.board.timing),
      dirs: this.#dirs,
      sandboxes: this.sandboxes,
      memoryReserveMb: this.board.memoryReserveMb,
      config: (names) => this.config.valuesOf(names),
      spawned: (child) => this.#hardware.spawned(child),
    }
    this.spares = new Spares(this.#launchContext)
    for (const handle of this.owner.all) {
      handle.onEdge(({ level, ns, seqno }) => {
        // The emergency stop comes before any program gets the edge (HANDLES 6.7).
        this.emergency.edge(handle.name, level)
        const slot = this.owner.holder(handle.name)
        if (slot !== null) this.#running.get(slot)?.edge({ id: handle.id, level, ns: String(ns), seqno })
      })
    }
    this.emergency.begin()
  }

  static async open(options: BodyOptions): Promise<Body> {
    const home = await openHome(options.home, options.name === undefined ? {} : { name: options.name })
    const door = new BundleVerifier()
    try {
      const board = await loadBoard(options, home.dir)
      if (options.sim && board.model !== 'sim') {
        const message = `--sim drives simulated boards only, and the board file says ${board.model}`
        throw new Refusal('bad-board', message, 'write "model": "sim", or leave --sim away')
      }
      const operators = await loadOperators(home)
      const bundles = await Bundles.open(join(home.dir, 'store'), door)
      const slots = await Slots.open(home)
      const receipts = await Receipts.open(home)
      const config = await ConfigFile.open(home.dir)
      const dirs = new RunDirs(home.dir)
      const stops = StopLatch.open(home.dir)
      let body: Body | null = null
      const hardware = await Hardware.open({
        board,
        home: home.dir,
        folder: join(dirs.base, 'handles'),
        sandbox: options.sandbox,
        scale: timeScale(),
        nextFence: () => slots.nextFence(),
        latchFd: stops.fd,
        stopped: () => body?.emergency.pressed(),
        log: createLog('body'),
      })
      const stored = { operators, bundles, slots, receipts, door, stops, config }
      body = new Body({ options, home, board, ...stored, hardware, dirs })
      for (const problem of [...slots.problems, ...receipts.problems, ...config.problems])
        body.slot('main').log.add('runtime', problem, 0, 'warn')
      return body
    } catch (error) {
      await Promise.all([home.close(), door.close()])
      if (error instanceof HardwareError)
        throw new Refusal('bad-device', error.message, 'medulla doctor', { cause: error })
      throw error
    }
  }

  /** Starts the programs that ran when the last runtime ended. */
  begin(): void {
    this.#hardware.watchBody()
    for (const name of this.slots.names()) {
      const { current, stopped } = this.slots.get(name)
      if (current === null) continue
      const slot = this.slot(name)
      if (!stopped && !this.stops.isStopped(name)) slot.begin()
    }
    if (this.#refusal() === null) this.#dirs.prepare()
  }

  /** The slot of this name, made when there is none. The caller calls {@link letGo} when it is done with it. */
  slot(name: string): Slot {
    const known = this.#running.get(name)
    if (known !== undefined) return known
    const used = this.all.filter((slot) => this.#counts(slot)).length
    if (used >= MAX_SLOTS) throw new Refusal('too-large', `this robot has ${MAX_SLOTS} slots already`, 'medulla status')
    const slot = new Slot(name, this.#env)
    this.#running.set(name, slot)
    for (const listener of this.#watchers) listener(slot)
    return slot
  }

  /** Throws Refusal `not-found`. */
  known(name: string): Slot {
    const slot = this.#running.get(name)
    if (slot === undefined) throw new Refusal('not-found', `there is no slot ${name}`, 'medulla status')
    return slot
  }

  /** Throws Refusal `not-found`, also for a slot that never had a program. */
  committed(name: string): Slot {
    const slot = this.known(name)
    if (this.slots.isCommitted(name)) return slot
    throw new Refusal('not-found', `slot ${name} has no program yet`, `medulla push --slot ${name}`)
  }

  /** Removes a slot that never committed a program and has no push under way; the default slot keeps its log (HANDOVER 2.8). */
  async letGo(slot: Slot): Promise<void> {
    const { name } = slot
    if (this.#counts(slot) || this.#running.get(name) !== slot) return
    if (name === DEFAULT_SLOT) return this.sandboxes.dropData(name)
    this.#running.delete(name)
    await slot.close()
    // A new slot of this name may have been made meanwhile: then handles and data folder are its own.
    if (this.#running.has(name)) return
    this.owner.keep([], name)
    this.spares.forget(name)
    await this.sandboxes.dropData(name)
  }

  /** Whether the slot has committed a program, or a push to it is under way. */
  #counts(slot: Slot): boolean {
    return this.slots.isCommitted(slot.name) || !slot.isIdle
  }

  get all(): Slot[] {
    return [...this.#running.values()]
  }

  /** Calls the listener for every slot that is made from now on. */
  onSlot(listener: (slot: Slot) => void): () => void {
    this.#watchers.add(listener)
    return () => this.#watchers.delete(listener)
  }

  /**
   * Null when the receipt could not be written; the runtime's log says so. `counted` when it was only counted (HANDOVER
   * 8.18).
   */
  record(entry: Entry): Promise<Receipt | 'counted' | null> {
    return this.#limit.record(entry)
  }

  async #append(entry: Entry): Promise<Receipt | null> {
    try {
      return await this.receipts.append({ ...entry, confined: this.sandboxes.confined })
    } catch (error) {
      this.#report.error(`no receipt of ${entry.outcome} in slot ${entry.slot}: ${(error as Error).message}`)
      return null
    }
  }

  /** An operator's own write; refused while an emergency stop is latched (HANDLES 6.10). */
  set(name: string, value: number, who: string): PinChange {
    const refusal = this.emergency.refusal()
    if (refusal !== null) throw refusal
    const { kind } = this.owner.set(name, value)
    this.#running.get(DEFAULT_SLOT)?.log.add('runtime', `${name} set to ${value} by ${who}`, 0, 'info')
    return { name, kind, value, ns: String(process.hrtime.bigint()), fence: 0 }
  }

  /** The releases for a rollback, the running one first, then the newest; without damaged ones. Failed releases come last. */
  async releases(slot: string): Promise<ReleaseInfo[]> {
    const { current } = this.slots.get(slot)
    const status = this.#running.get(slot)?.status()
    const found = await Promise.all(
      this.slots.releases(slot).map(async (digest) => {
        const record = await this.bundles.record(digest).catch(() => null)
        if (record === null) return []
        const { signer, time, manifest } = record
        const { program, version } = manifest
        const pusher = this.nameOf(record.pusher)
        const run = this.slots.get(slot).runs[digest]
        const runs = status?.digest === digest && status.uptimeMs !== undefined ? { runsMs: status.uptimeMs } : {}
        const about = { digest, program, version, signer, pusher, time, current: digest === current }
        return [{ ...about, ...(run === undefined ? {} : { run }), ...runs }]
      }),
    )
    const undone = this.slots.get(slot).undone.map((each): ReleaseInfo => {
      return { ...each, pusher: this.nameOf(each.pusher), current: false, undone: true }
    })
    return [...found.flat(), ...undone]
  }

  /** Whether the clock can be trusted for expiry dates (BUNDLE 10.13); the simulator has the laptop's clock. */
  get clockSynced(): boolean {
    return this.options.sim || isClockSynchronised() === true
  }

  /** The counters that a new release of the program may have (BUNDLE 6.8). */
  counterRange(program: string): CounterRange {
    const [floor, now] = [this.slots.floor('program', program), Date.now()]
    return { least: floor + 1, most: highestCounter({ floor, now }), now, synchronised: this.clockSynced }
  }

  /** Forgets the newest counter of a program, so that older releases can be pushed (BUNDLE 10.14). */
  async resetFloor(program: string, by: string): Promise<CounterRange> {
    const before = this.slots.floor('program', program)
    await this.slots.resetFloor('program', program)
    const reason = `floor of ${program}: was ${before}, any counter is new again`
    await this.record(plainEntry('all', 'changed', 0, { program, reason, pusher: by }))
    return this.counterRange(program)
  }

  /** The folder of the endpoint's staged files: private, in memory. */
  get endpointFolder(): string {
    return join(this.#dirs.base, 'endpoint')
  }

  /** The report without `endpoint`, which EndpointLink adds. */
  status(): StatusReport {
    return {
      name: this.home.name,
      id: this.home.id,
      version: this.options.version,
      board: this.board.name ?? this.board.model,
      simulated: this.options.sim,
      fence: this.sandboxes.fence,
      limits: this.sandboxes.limits,
      confined: this.sandboxes.confined,
      clockSynced: this.clockSynced,
      estop: this.stops.estop,
      uptimeMs: Math.round(performance.now() - this.#began),
      head: this.receipts.head(),
      slots: this.all
        .filter((slot) => this.#counts(slot))
        .map((slot) => {
          const { previous } = this.slots.get(slot.name)
          return { ...slot.status(), ...(previous === null ? {} : { previous }) }
        }),
    }
  }

  async close(): Promise<void> {
    await this.spares.close()
    await Promise.all(this.all.map((slot) => slot.close()))
    await this.#hardware.close()
    await this.door.close()
    await this.slots.close()
    await this.#limit.close()
    await this.receipts.close()
    await this.stops.close()
    this.#dirs.close()
    await this.home.close()
  }

  /** The name of an operator, or the fingerprint when the robot does not know her any more. */
  nameOf(pusher: string): string {
    return this.operators.now.byFingerprint(pusher)?.name ?? pusher
  }

  /** Why no program may be started on this robot; null when programs may be started. */
  #refusal(): Refusal | null {
    return this.sandboxes.problem ?? this.emergency.refusal()
  }

  /** An installed program may not fit the present board, Node or runtime (HANDOVER 9.9). */
  #unfit(slot: string, { platform, manifest }: Runnable): Refusal | null {
    const here = { arch: process.arch, node: process.version, wire: WIRE }
    const leased = this.owner.leasedByOthers(slot)
    const facts = { ...here, handles: this.owner.kinds(), leased, slot, config: this.config.names }
    return this.#refusal() ?? unfit(platform, manifest, facts)
  }

  #edges(slot: string, fromNs: number, toNs: number): number | null {
    const { world } = this.#hardware
    if (world === null) return null
    const { trace } = world
    const recent = trace.recent()
    // The trace does not reach back to `fromNs`, so the changes cannot be counted.
    if (trace.count > recent.length && Number(recent[0]?.ns ?? 0) > fromNs) return null
    const inside = ({ ns }: { ns: bigint }) => Number(ns) > fromNs && Number(ns) < toNs
    return recent
      .filter((change) => change.changed && change.kind !== 'input' && inside(change))
      .filter(({ name }) => this.owner.holder(name) === slot).length
  }

  get #env(): SlotEnv {
    const { slots, bundles, owner } = this
    const { timing } = this.#launchContext
    return {
      owner,
      timing,
      timeScale: timeScale(),
      launch: async (about, runnable, on) => {
        const refusal = this.#unfit(about.slot, runnable)
        if (refusal !== null) throw refusal
        return launch(this.#launchContext, this.spares, about, runnable, on)
      },
      prepare: () => this.#dirs.prepare(),
      onIdle: (slot, log, running) => {
        this.spares.onIdle(slot, log, running)
        for (const other of this.#running.values()) if (other.name !== slot) other.reconsider()
      },
      admit: () => {
        const refusal = this.#refusal()
        if (refusal !== null) throw refusal
      },
      unfit: (slot, runnable) => this.#unfit(slot, runnable),
      canGoBack: (slot) => slots.releases(slot).length > 1,
      crashed: () => {},
      runOf: (slot, digest) => slots.get(slot).runs[digest] ?? null,
      saveRun: (slot, digest, run, written) => slots.setRun(slot, digest, run, written),
      edges: (slot, fromNs, toNs) => this.#edges(slot, fromNs, toNs),
      receipt: async (entry) => {
        const receipt = await this.record(entry)
        return receipt === 'counted' ? null : receipt
      },
      commit: async (slot, runnable, raiseFloor) => {
        const { program, digest } = runnable
        const counter = raiseFloor ? runnable.counter : slots.floor('program', program)
        await slots.commit(slot, digest, { kind: 'program', program, counter })
        // Not awaited: if this write fails, the slot is stopped after the next start of the runtime.
        void this.stops.startSlot(slot)
      },
      undone: async (slot, { digest, program, version, signer }, pusher) => {
        await slots.rolledBack(digest)
        await slots.setUndone(slot, { digest, program, version, signer, pusher, time: new Date().toISOString() })
      },
      setStopped: async (slot, stopped) => {
        // A slot without a commit is not started at boot, and leaves nothing on disk (HANDOVER 2.8).
        if (stopped && !slots.isCommitted(slot)) return
        // Already stopped on disk: repeated stops write nothing (HANDOVER 8.19).
        if (stopped && slots.get(slot).stopped && this.stops.isStopped(slot)) return
        // The latch is written first, in place: a stop must be recorded on a full disk, too (HANDLES 6.11).
        const refused = stopped ? await this.stops.stopSlot(slot) : null
        await slots.setStopped(slot, stopped).catch((error: unknown) => {
          if (!stopped || refused !== null) throw error
        })
        const started = stopped ? null : await this.stops.startSlot(slot)
        if (started !== null) throw started
      },
      params: (slot) => (slots.isCommitted(slot) ? slots.get(slot).paramSets : null),
      saveParams: async (slot, sets) => {
        await slots.setParams(slot, sets)
      },
      saveCheckpoint: (slot, checkpoint) => slots.saveCheckpoint(slot, checkpoint),
      loadCheckpoint: (slot, runnable) => checkpointOf(slots, slot, runnable, this.slot(slot).log),
      committed: async (slot) => {
        const { current, previous } = slots.get(slot)
        let damage: Refusal | null = null
        for (const digest of [current, previous]) {
          if (digest === null) continue
          try {
            const runnable = await stored(bundles, digest)
            if (digest !== current) await slots.fallBack(slot, digest)
            return runnable
          } catch (error) {
            if (!(error instanceof Refusal)) throw error
            // With no other release, the slot waits and logs this error itself.
            if (damage !== null || previous !== null) {
              this.slot(slot).log.add('runtime', `${error.code}: ${error.message}`, 0, 'error')
            }
            damage ??= error
          }
        }
        if (damage !== null) throw damage
        return null
      },
    }
  }
}
