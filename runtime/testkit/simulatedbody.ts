/**
 * The body of a simulated robot: the real slot, owner and lifecycle, over a simulated world, in simulated time.
 *
 * Two things differ from a robot's body: programs are not processes (actor.ts), and memory takes the place of the disk.
 */
import type { Outcome, PushEvent, Receipt } from '../../deploy/shared/api.ts'
import { encodeManifest, MANIFEST_FORMAT, type Manifest, parseManifest } from '../../deploy/shared/bundle/manifest.ts'
import { unmet, unset } from '../../deploy/shared/bundle/policy.ts'
import { Refusal, type RefusalCode } from '../../deploy/shared/errors.ts'
import type { Board } from '../../drivers/board/types.ts'
import { SimBackend } from '../../drivers/owner/sim/backend.ts'
import { World } from '../../drivers/owner/sim/world.ts'
import { HardwareOwner } from '../body/hardware/owner.ts'
import type { Cause } from '../body/slot/cause.ts'
import type { ReceiptEntry } from '../body/slot/entries.ts'
import { SlotLog } from '../body/slot/log.ts'
import { Slot } from '../body/slot/slot.ts'
import { Timeline } from '../body/slot/timeline.ts'
import { Upgrade } from '../body/slot/upgrade.ts'
import type { ParamValue } from '../sdk/params.ts'
import { clockNs } from '../sdk/ticker.ts'
import type { Actor } from './actor.ts'
import { ActorLauncher, type Installed } from './actorlauncher.ts'
import { Laptops } from './channels.ts'
import type { Loaded } from './load.ts'
import { MemorySlotStore } from './memorystore.ts'
import { withAuthorStack } from './places.ts'
import { Recorder } from './recorder.ts'
import { Time } from './time.ts'

/** The robot crashed, or undid a swap; `cause` is what the program threw. */
export class SimulationError extends Error {
  readonly code: RefusalCode
  constructor(code: RefusalCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'SimulationError'
    this.code = code
  }
}

export interface SimulatedBodyOptions {
  readonly board: Board
  readonly rehearsals: number
  readonly seed: number
  readonly epochMs: number
  /** An unexpected crash, or undone swap, is thrown by the call in which it happens. */
  readonly strict: boolean
  /** Output of the program goes to its log only, as on a robot. */
  readonly capture: boolean
  /** Config values of the robot, by name. */
  readonly config: Readonly<Record<string, string>>
}

/** Most events without a turn of the event loop: the process must go on handling its signals. */
const STRETCH = 4096
/** Longer than every deadline of a swap together. */
const SWAP_NS = 120_000_000_000n
const SLOT = 'main'

export class SimulatedBody {
  readonly time: Time
  readonly world: World
  readonly owner: HardwareOwner
  readonly slot: Slot
  readonly recorder: Recorder
  readonly laptops: Laptops
  readonly receipts: Receipt[] = []
  readonly #options: SimulatedBodyOptions
  readonly #launcher: ActorLauncher
  readonly #store = new MemorySlotStore<Installed>()
  #fence = 0
  #failure: SimulationError | null = null
  /** The caller waits for the end of a swap, or asked for the crash: a failure is then no surprise. */
  #expected = false

  constructor(options: SimulatedBodyOptions) {
    const { board, seed, epochMs, capture } = options
    this.#options = options
    this.time = new Time({ seed, epochMs, output: capture ? (...said) => this.#printed(...said) : undefined })
    this.world = new World({ wires: board.wires, clock: this.time.clock })
    this.recorder = new Recorder(() => this.time.ns)
    this.world.onChange((change) => this.recorder.take(change))
    this.owner = new HardwareOwner(new SimBackend({ world: this.world, folder: null }), board, () => ++this.#fence)
    this.laptops = new Laptops(this.time.clock)
    const { timing } = board
    const { rehearsals, config } = options
    const { time, owner, laptops } = this
    this.#launcher = new ActorLauncher({ time, owner, laptops, timing, rehearsals, config })
    const ledger = {
      receipt: (entry: ReceiptEntry) => this.#receipt(entry),
      crashed: (cause: Cause) => this.#crashed(cause),
    }
    const parts = { owner: this.owner, launcher: this.#launcher, store: this.#store, ledger }
    this.slot = this.time.act(() => new Slot(SLOT, { timing, timeScale: 1, log: new SlotLog(SLOT), ...parts }))
    for (const handle of this.owner.all) {
      const value = handle.value()
      // temperatures change without a write, and no change is reported
      if (value !== undefined && handle.kind !== 'temperature') this.recorder.begin(handle.name, value)
      handle.onEdge(({ level, ns, seqno }) => this.slot.edge({ id: handle.id, level, ns: String(ns), seqno }))
    }
    this.time.onUnowned = (error) => this.actor?.caught(error)
  }

  get board(): Board {
    return this.#options.board
  }

  /** The date at the start of the simulation. */
  get date(): Date {
    return new Date(this.#options.epochMs)
  }

  /** The newest program that is alive. */
  get actor(): Actor | null {
    return this.#launcher.newest
  }

  get running(): Installed | null {
    return this.slot.runs as Installed | null
  }

  /** The program to which a rollback goes back. */
  get previous(): Installed | null {
    return this.#store.before(this.running)
  }

  /** Throws Refusal when the board or the config lacks something that the program needs. */
  install(loaded: Loaded): Installed {
    const { program, version } = loaded
    const description = loaded.declared.describe()
    const unchecked = { format: MANIFEST_FORMAT, entry: 'program.mjs', program, version, ...description }
    // parseManifest checks the description strictly, as it comes from the program
    const manifest = parseManifest(encodeManifest(unchecked as unknown as Manifest))
    const refusal = unmet(manifest.needs, { handles: this.owner.kinds(), leased: {}, slot: SLOT })
    if (refusal !== null) throw refusal
    const missing = unset(manifest.config, new Set(Object.keys(this.#options.config)))
    if (missing !== null) {
      const message = missing.message.replace('set on this robot', 'given to the simulation')
      const hint = `simulate(program, { config: { NAME: 'value' } }), or "config": { "NAME": "value" } in a scenario`
      throw new Refusal(missing.code, message, hint)
    }
    const digest = `simulated:${program}:${version}:${this.#launcher.generation}`
    return {
      loaded,
      program,
      version,
      manifest,
      digest,
      signer: '',
      counter: 0,
      platform: { arch: ['any'], node: '>=20.19' },
      h1: '',
      stored: Promise.resolve(),
      extract: async () => {},
    }
  }

  /** Starts the program like a robot that is switched on with this program on its disk. */
  async begin(installed: Installed, params: Readonly<Record<string, ParamValue>>): Promise<void> {
    this.#store.install(installed)
    if (Object.keys(params).length > 0) await this.set(params)
    this.slot.begin()
    await this.go(this.time.clock.now() + SWAP_NS, () => this.slot.state === 'running')
  }

  /** Sets parameters of the program that runs or is about to run. Throws Refusal `bad-param`. */
  async set(params: Readonly<Record<string, ParamValue>>): Promise<void> {
    const runs = await this.slot.params.program()
    // not awaited: saving takes simulated time
    const saved = this.slot.params.change({ set: { ...params } }, runs, 'the test')
    saved.catch(() => {})
    await this.time.turn()
  }

  /** Returns when the new program has taken over and its trial begins. Throws SimulationError if it did not take over. */
  async swap(to: Installed, kind: Upgrade['kind']): Promise<Upgrade> {
    const far = this.time.clock.now() + SWAP_NS
    // a swap during another program's trial waits for the end of that trial
    await this.go(far, () => ['idle', 'running', 'cooling'].includes(this.slot.state))
    this.slot.reserve()
    const from = this.slot.goesBackTo
    const timeline = new Timeline(clockNs(), () => {})
    const upgrade = new Upgrade({ kind, to, from, force: false, timeline })
    let ended: Extract<PushEvent, { event: 'result' }> | null = null
    this.#expected = true
    try {
      const finished = this.slot.launch(upgrade).then((event) => {
        ended = event as Extract<PushEvent, { event: 'result' }>
      })
      await this.go(far, () => ended !== null || this.slot.state === 'trial' || this.slot.state === 'proving')
      if (ended === null) return upgrade
      await finished
    } finally {
      this.#expected = false
    }
    const { outcome, code = 'internal', message } = ended as Extract<PushEvent, { event: 'result' }>
    if (outcome === 'committed') return upgrade
    throw new SimulationError(code, message, { cause: withAuthorStack(this.#launcher.thrown) })
  }

  /** Ends the program as SIGKILL does. The slot drives the safe levels, and later starts the program again. */
  async crash(): Promise<void> {
    this.#expected = true
    try {
      this.actor?.end()
      await this.go(this.time.clock.now(), () => this.slot.state !== 'running')
    } finally {
      this.#expected = false
    }
  }

  async stop(): Promise<void> {
    // a swap in its trial ends with the stop, which is no failure
    this.#expected = true
    await this.#finish(this.slot.stop('stop', null).then(() => {}))
    await this.close()
  }

  /** Ends all programs and closes everything. */
  async close(): Promise<void> {
    this.#expected = true
    this.#failure = null
    // close() also saves the last changes, which takes simulated time
    await this.#finish(this.slot.close())
    this.#launcher.endAll()
    await this.time.turn()
    this.#launcher.close()
  }

  /** Lets simulated time pass until `end` on the clock, or until `done` returns true. */
  async go(end: bigint, done: () => boolean = () => false): Promise<void> {
    const { time } = this
    const { clock } = time
    for (let events = 0; ; events++) {
      if (time.pending || events % STRETCH === 0) {
        await time.turn()
        time.pending = false
      }
      this.#fail()
      if (done()) return
      const actor = this.#launcher.next
      const due = actor === null ? null : BigInt(Math.ceil(actor.dueNs))
      const call = clock.due
      if (call !== null && call <= end && (due === null || call <= due)) clock.step(call)
      else if (actor !== null && due !== null && due <= end) {
        if (due > clock.now()) clock.step(due)
        actor.tick()
      } else if (!time.pending) {
        clock.step(end)
        return
      }
    }
  }

  /** Lets simulated time pass until `work` has settled. */
  async #finish(work: Promise<void>): Promise<void> {
    let over = false
    const watched = work.finally(() => {
      over = true
    })
    await this.go(this.time.clock.now() + SWAP_NS, () => over)
    await watched
  }

  #fail(): void {
    const failure = this.#failure
    this.#failure = null
    if (failure !== null && this.#options.strict) throw failure
  }

  /** Every crash that nobody asked for is a failure of the simulation. */
  #crashed(cause: Cause): void {
    if (!this.#expected) this.#failure = this.#failureOf('crashed', cause)
  }

  /** Keeps the receipt in memory, unsigned. A swap that was undone unexpectedly is a failure of the simulation. */
  async #receipt(entry: ReceiptEntry): Promise<Receipt> {
    const seq = this.receipts.length + 1
    const time = new Date().toISOString()
    const about = { format: 'medulla-receipt/1', seq, prev: '', robot: 'simulated', time, confined: false } as const
    const receipt: Receipt = { ...about, ...entry }
    this.receipts.push(receipt)
    const { outcome, code = 'internal', reason: message = '', said } = entry
    if ((outcome === 'rolled-back' || outcome === 'called-off') && !this.#expected)
      this.#failure = this.#failureOf(outcome, { code, message, ...(said !== undefined && { said }) })
    return receipt
  }

  #printed(stream: 'stdout' | 'stderr', text: string): void {
    for (const line of text.split('\n')) if (line !== '') this.slot.log.add(stream, line, this.#fence)
  }

  #failureOf(outcome: Outcome, cause: Cause): SimulationError {
    const what = outcome === 'crashed' ? 'the program crashed' : 'the swap was undone'
    const text = `at ${this.time.ns / 1e6} ms ${what}: ${cause.said ?? cause.message}`
    return new SimulationError(cause.code, text, { cause: withAuthorStack(this.#launcher.thrown) })
  }
}
