/**
 * The body: home, operators, store, receipts, board, owner, and one Slot for each slot name. Whatever must survive a restart is in
 * the home; whatever drives a pin goes through the owner. openbody.ts opens what it consists of.
 */
import { join } from 'node:path'
import { DEFAULT_SLOT, type PinChange, type StatusReport } from '../../deploy/shared/api.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { timeScale } from '../../deploy/shared/timescale.ts'
import type { Board, Timing } from '../../drivers/board/types.ts'
import { createLog } from '../log.ts'
import { isClockSynchronised } from '../plumbing/clock.ts'
import { clockNs } from '../sdk/ticker.ts'
import type { Builds } from '../store/builds.ts'
import type { Bundles } from '../store/bundles.ts'
import type { ConfigFile } from '../store/config.ts'
import type { Home } from '../store/home.ts'
import type { Operators } from '../store/operators.ts'
import type { Receipts } from '../store/receipts.ts'
import type { Slots } from '../store/slots.ts'
import type { BundleVerifier } from '../store/verifier.ts'
import { scaled } from './hardware/boardfile.ts'
import type { Hardware, SavedHardware } from './hardware/hardware.ts'
import type { HardwareOwner } from './hardware/owner.ts'
import { Pins } from './hardware/pins.ts'
import { RobotLedger } from './ledger.ts'
import type { BodyOptions } from './options.ts'
import { RobotConfig } from './orders/config.ts'
import { Delegations } from './orders/delegations.ts'
import { OperatorList } from './orders/operatorlist.ts'
import { OrderDesk } from './orders/orders.ts'
import { Releases } from './orders/releases.ts'
import { RobotKeys } from './orders/robotkeys.ts'
import { Pairing } from './pairing/pairing.ts'
import { Responder } from './pairing/responder.ts'
import type { SavedBody } from './replace/saved.ts'
import { type LaunchContext, ProcessLauncher } from './sandbox/launcher.ts'
import type { RunDirs, SavedRunDirs } from './sandbox/rundir.ts'
import type { Sandboxes } from './sandbox/sandboxes.ts'
import { Spares } from './sandbox/spares.ts'
import { Beginning } from './service/beginning.ts'
import type { SlotContext } from './slot/context.ts'
import { DiskSlotStore } from './slot/diskstore.ts'
import { plainEntry } from './slot/entries.ts'
import { SlotLog } from './slot/log.ts'
import { Slot } from './slot/slot.ts'
import { EmergencyStop } from './stop/emergency.ts'
import type { StopLatch } from './stop/stops.ts'

/** Most slots of a robot (HANDOVER 2.5). */
const MAX_SLOTS = 16

/** What openbody.ts opens for a body. */
export interface BodyParts {
  readonly options: BodyOptions
  readonly home: Home
  readonly board: Board
  readonly operators: Operators
  readonly bundles: Bundles
  readonly slots: Slots
  readonly receipts: Receipts
  readonly verifier: BundleVerifier
  readonly stops: StopLatch
  readonly hardware: Hardware
  readonly dirs: RunDirs
  readonly config: ConfigFile
  readonly builds: Builds
}

export class Body {
  readonly options: BodyOptions
  readonly home: Home
  readonly board: Board
  readonly bundles: Bundles
  readonly slots: Slots
  readonly receipts: Receipts
  readonly verifier: BundleVerifier
  readonly owner: HardwareOwner
  readonly sandboxes: Sandboxes
  readonly stops: StopLatch
  readonly emergency: EmergencyStop
  readonly orders: OrderDesk
  readonly pins: Pins
  readonly #hardware: Hardware
  readonly spares: Spares
  readonly #dirs: RunDirs
  readonly ledger: RobotLedger
  readonly #timing: Timing
  readonly #launcher: ProcessLauncher
  readonly #running = new Map<string, Slot>()
  readonly #began = performance.now()
  readonly #report = createLog('body')
  readonly #watchers = new Set<(slot: Slot) => void>()
  #beginning: Beginning | null = null
  readonly operators: OperatorList
  readonly pairing: Pairing
  readonly releases: Releases
  readonly config: RobotConfig
  readonly keys: RobotKeys
  readonly delegations: Delegations
  readonly builds: Builds

  constructor(parts: BodyParts) {
    this.options = parts.options
    this.home = parts.home
    this.board = parts.board
    this.operators = new OperatorList(parts.home, parts.operators, (entry) => this.ledger.record(entry))
    this.pairing = new Pairing({
      home: parts.home,
      operators: this.operators,
      responder: new Responder(timeScale()),
      files: parts.options.pairingFiles ?? [],
      report: this.#report,
    })
    this.config = new RobotConfig(parts.config, this)
    this.releases = new Releases(this)
    this.bundles = parts.bundles
    this.keys = new RobotKeys(this)
    this.builds = parts.builds
    this.builds.isRevoked = (id) => this.operators.now.isRevoked(id)
    this.delegations = new Delegations(() => this.operators.now)
    this.slots = parts.slots
    this.receipts = parts.receipts
    this.verifier = parts.verifier
    this.#hardware = parts.hardware
    this.sandboxes = parts.hardware.sandboxes
    this.owner = parts.hardware.owner
    this.stops = parts.stops
    const known = (fingerprint: string) => this.operators.now.byFingerprint(fingerprint) !== null
    this.ledger = new RobotLedger(parts.receipts, this.sandboxes.confined, known)
    this.orders = new OrderDesk(parts.home.id, () => this.operators.now)
    this.emergency = new EmergencyStop({
      board: this.board,
      stops: parts.stops,
      hardware: parts.hardware,
      slots: this.#running,
      began: () => this.orders.stopped(null),
      record: (entry) => this.ledger.record(entry),
      log: this.#report,
    })
    this.pins = new Pins(parts.hardware)
    this.#dirs = parts.dirs
    this.#timing = scaled(this.board.timing)
    const context: LaunchContext = {
      owner: this.owner,
      timing: this.#timing,
      dirs: this.#dirs,
      sandboxes: this.sandboxes,
      memoryReserveMb: this.board.memoryReserveMb,
      builds: parts.builds,
      config: this.config,
      spawned: (child) => this.#hardware.spawned(child),
    }
    this.spares = new Spares(context)
    this.#launcher = new ProcessLauncher({
      context,
      spares: this.spares,
      refusal: () => this.#refusal(),
      changed: (slot) => {
        const moved = this.#running.get(slot)
        if (moved !== undefined) this.#beginning?.moved(slot, moved.state)
        for (const other of this.#running.values()) if (other.name !== slot) other.reconsider()
      },
    })
    for (const handle of this.owner.all) {
      handle.onEdge(({ level, ns, seqno }) => {
        // The emergency stop comes before any program gets the edge (HANDLES 6.7).
        this.emergency.edge(handle.name, level)
        const slot = this.owner.holder(handle.name)
        if (slot !== null) this.#running.get(slot)?.edge({ id: handle.id, level, ns: String(ns), seqno })
      })
    }
  }

  /**
   * Starts the programs that ran when the last runtime ended; those of `saved` still run, and go on. `begun` is called when
   * each of them runs, waits or has failed.
   */
  begin(begun: () => void, saved?: SavedBody): void {
    this.#hardware.watchBody()
    this.#beginning = new Beginning(begun)
    const goesOn = saved === undefined ? new Set() : this.#goOn(saved)
    this.emergency.begin()
    for (const name of this.slots.names()) {
      if (this.slots.get(name).current === null) continue
      const slot = this.slot(name)
      if (goesOn.has(name) || !this.startsAtBegin(name)) continue
      this.#beginning.add(name)
      slot.begin()
    }
    this.#beginning.complete()
    // No program runs that would, unless it goes on from the last runtime (HANDOVER 17.9, 18.1).
    if (this.options.minimal !== undefined && goesOn.size === 0) this.owner.safeAll()
    if (this.#refusal() === null) this.#dirs.prepare()
  }

  /** Whether the slot has a program that a start of the runtime starts, too. */
  startsAtBegin(name: string): boolean {
    const { current, stopped } = this.slots.get(name)
    return current !== null && !stopped && !this.stops.isStopped(name) && this.options.minimal === undefined
  }

  /** The programs go on that the last runtime left running. Returns their slots. */
  #goOn({ slots, from, by, atNs, failed }: SavedBody): ReadonlySet<string> {
    for (const { slot: name, log, program } of slots) {
      const slot = this.slot(name)
      slot.log.restore(log)
      if (program === null) continue
      slot.adopt(program, (listener) => this.#launcher.adopt(program, slot.log, this.bundles, listener))
    }
    const gapMs = (clockNs() - atNs) / 1e6
    const versions = `${from.version} by ${this.options.version}`
    const reason = failed === undefined ? `the runtime was replaced, ${versions}` : `the runtime is back: ${failed}`
    const running = slots.filter(({ program }) => program !== null)
    this.#report.info(`${reason}; ${running.length} programs went on, ${gapMs.toFixed(1)} ms without a body`)
    const about = { program: 'medulla', version: this.options.version, reason, gapMs, wallMs: gapMs }
    void this.ledger.record(plainEntry('all', 'changed', 0, by === null ? about : { ...about, pusher: by }))
    return new Set(running.map(({ slot }) => slot))
  }

  /** Resolves when everything that was asked of the body so far is on disk. */
  async settle(): Promise<void> {
    await this.spares.close()
    await Promise.all(this.all.map((slot) => slot.settle()))
    await this.ledger.close()
    await this.receipts.settle()
    await this.slots.close()
  }

  /** For how long a silent program of each slot was not dealt with, in ms (HANDOVER 16.4). */
  get silentMs(): ReadonlyMap<string, number> {
    return new Map(this.all.map(({ name, silentMs }) => [name, silentMs]))
  }

  get lostHandles(): string[] {
    return this.#hardware.lostHandles
  }

  saveHardware(): SavedHardware | null {
    return this.#hardware.save()
  }

  saveDirs(): SavedRunDirs {
    return this.#dirs.save()
  }

  /** A private folder in memory. */
  get folder(): string {
    return this.#dirs.base
  }

  watch(): void {
    this.#hardware.watchBody()
  }

  pause(forMs: number): void {
    this.#hardware.pause(forMs)
  }

  /** The slot of this name, made when there is none. The caller calls {@link letGo} when it is done with it. */
  slot(name: string): Slot {
    const known = this.#running.get(name)
    if (known !== undefined) return known
    const used = this.all.filter((slot) => this.#counts(slot)).length
    if (used >= MAX_SLOTS) throw new Refusal('too-large', `this robot has ${MAX_SLOTS} slots already`, 'medulla status')
    const slot = new Slot(name, this.#contextOf(name))
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

  /** An operator's own write; refused while an emergency stop is latched (HANDLES 6.10). */
  set(name: string, value: number, who: string): PinChange {
    const refusal = this.emergency.refusal()
    if (refusal !== null) throw refusal
    const { kind } = this.owner.set(name, value)
    this.#running.get(DEFAULT_SLOT)?.log.add('runtime', `${name} set to ${value} by ${who}`, 0, 'info')
    return { name, kind, value, ns: String(process.hrtime.bigint()), fence: 0 }
  }

  /** Whether the clock can be trusted for expiry dates (BUNDLE 10.13); the simulator has the laptop's clock. */
  get clockSynced(): boolean {
    return this.options.sim || isClockSynchronised() === true
  }

  /** The folder of the endpoint's staged files: private, in memory. */
  get endpointFolder(): string {
    return join(this.#dirs.base, 'endpoint')
  }

  /** The report without `endpoint`, which EndpointLink adds. */
  status(): StatusReport {
    const alarms = [...this.slots.problems, ...this.config.problems, ...this.builds.problems]
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
      ...(this.pairing.status === null ? {} : { pairing: this.pairing.status }),
      uptimeMs: Math.round(performance.now() - this.#began),
      head: this.receipts.head(),
      slots: this.all.filter((slot) => this.#counts(slot)).map((slot) => slot.status()),
      ...(alarms.length === 0 ? {} : { alarms }),
    }
  }

  async close(): Promise<void> {
    await this.pairing.close()
    await this.spares.close()
    await Promise.all(this.all.map((slot) => slot.close()))
    await this.#hardware.close()
    await this.verifier.close()
    await this.slots.close()
    await this.ledger.close()
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
    return this.sandboxes.problem ?? this.emergency.refusal() ?? this.#minimal()
  }

  #minimal(): Refusal | null {
    const { minimal } = this.options
    if (minimal === undefined) return null
    return new Refusal('minimal', `the robot is in minimal mode and starts no program: ${minimal.why}`, minimal.hint)
  }

  #contextOf(name: string): SlotContext {
    const log = new SlotLog(name)
    return {
      owner: this.owner,
      timing: this.#timing,
      timeScale: timeScale(),
      log,
      launcher: this.#launcher,
      store: new DiskSlotStore(name, this, (text) => log.add('runtime', text, 0, 'error')),
      ledger: this.ledger,
    }
  }
}
