/**
 * A simulated program: what a slot sees of a process, without a process. It gets the same messages in the same order, has
 * the files of a run folder, and none of its code runs while it is frozen or after its end.
 */
import { closeSync, ftruncateSync, openSync } from 'node:fs'
import { HardwareError } from '../../drivers/errors.ts'
import { grantOf, type OwnedHandle } from '../../drivers/owner/backend.ts'
import { answer } from '../../drivers/owner/broker.ts'
import type { RunDir } from '../body/sandbox/rundir.ts'
import type { Cause } from '../body/slot/cause.ts'
import { lastWords, parseFromProgram } from '../body/slot/messages.ts'
import type { ProgramInstance } from '../body/slot/running.ts'
import type { Host, ProgramFiles } from '../sdk/host.ts'
import type { DeclaredProgram } from '../sdk/hosts.ts'
import { decodeState } from '../sdk/state.ts'
import { StateReader } from '../sdk/statearea.ts'
import type { Ticker } from '../sdk/ticker.ts'
import { type FromProgram, type Init, type ToProgram, WIRE } from '../sdk/wire.ts'
import { type Laptops, simulatedChannels } from './channels.ts'
import { explainError } from './places.ts'
import { gatePort } from './rehearsals.ts'
import { asBody, asProgram, type Time, type TimerOwner } from './time.ts'

export interface ActorOptions {
  readonly time: Time
  readonly dir: RunDir
  readonly handles: readonly OwnedHandle[]
  readonly predecessor: Actor | null
  readonly laptops: Laptops
  readonly init: Omit<Init, 't' | 'wire' | 'file' | 'grants' | 'role' | 'confine'>
  onMessage(message: FromProgram): void
  onExit(): void
  /** Called with an uncaught error of the program, before the slot hears of it. */
  onThrown(error: unknown): void
}

/** Number of a checkpoint that `state()` asks for and the slot must not see. */
const PRIVATE = -1

export class Actor implements ProgramInstance, TimerOwner {
  readonly options: ActorOptions
  readonly pid = process.pid
  readonly freezeMs = 0
  fence = 0
  fatal: Cause | null = null
  ticker: Ticker | null = null
  alive = true
  readonly #places: ProgramFiles
  readonly #fds: number[] = []
  #frozen = false
  readonly #late = new Set<() => void>()
  #hear: ((message: ToProgram) => void) | null = null
  #uncaught: (error: unknown) => void = () => {}
  /** Continues the takeover once the record is there; a process would block in read(2) until then (HANDOVER 6.4). */
  #armed: (() => void) | null = null
  #successor: Actor | null = null
  #stateCopy: unknown = null

  constructor(options: ActorOptions) {
    this.options = options
    const { dir, predecessor } = options
    const open = (path: string): number => {
      const fd = openSync(path, 'r+')
      this.#fds.push(fd)
      return fd
    }
    const before = predecessor?.options.dir ?? dir
    this.#places = {
      outbox: open(dir.outbox),
      inbox: open(dir.inbox),
      scratch: open(dir.scratch),
      handoverOut: { fd: open(dir.fifo), position: 0 },
      predecessor: open(before.outbox),
      handoverIn: { fd: open(before.fifo), position: 0 },
    }
    if (predecessor !== null) predecessor.#successor = this
  }

  /** Deadline of the program's next tick, in ns; infinite while there is none. */
  get dueNs(): number {
    return this.ticker?.running && this.alive && !this.#frozen ? this.ticker.dueNs : Number.POSITIVE_INFINITY
  }

  start(program: DeclaredProgram): void {
    const { handles, init, predecessor, laptops } = this.options
    const { channels, gate } = simulatedChannels(this, laptops, (text) =>
      this.#toSlot({ t: 'log', level: 'warn', text }),
    )
    const granted = new Map(handles.map((handle) => [handle.id, handle]))
    const host: Host = {
      init: {
        t: 'init',
        wire: WIRE,
        file: '',
        role: predecessor === null ? 'first' : 'candidate',
        grants: handles.map((handle) => grantOf(handle, handle.grant())),
        confine: null,
        ...init,
      },
      system: null,
      places: this.#places,
      broker: {
        request: (id, op, fence, payload) => {
          const result = answer({ id, op, fence, payload }, granted, this.fence)
          if (result instanceof HardwareError) throw result
          return result
        },
      },
      gate: { ...gatePort(), ...gate },
      channels,
      pace: (ticker) => {
        this.ticker = ticker
      },
      send: (message) => this.#toSlot(message),
      explain: explainError,
      collect: () => {},
      listen: (hear) => {
        this.#hear = hear
      },
      onUncaught: (caught) => {
        this.#uncaught = caught
      },
      exit: () => this.end(),
    }
    this.run(() => program.start(host))
  }

  run(call: () => void): void {
    if (!this.alive) return
    if (this.#frozen) {
      this.#late.add(call)
      return
    }
    const { time } = this.options
    const before = time.owner
    time.owner = this
    try {
      asProgram(this, call)
    } catch (error) {
      this.caught(error)
    } finally {
      time.owner = before
    }
  }

  /** Ends the program, as an uncaught exception ends a process. */
  caught(error: unknown): void {
    if (!this.alive) return
    this.options.onThrown(error)
    this.#uncaught(error)
  }

  tick(): void {
    const { ticker } = this
    if (ticker !== null) this.run(() => ticker.fire())
  }

  /** Edges and parameters from the test arrive at once; messages that a program or the slot causes arrive in a microtask. */
  send(message: ToProgram): void {
    const hear = () => this.run(() => this.#deliver(message))
    if (this.options.time.owner === null && (message.t === 'edge' || message.t === 'params')) hear()
    else queueMicrotask(hear)
  }

  /** A copy of the state, as a swap would carry it. Throws the error that the swap would report. */
  state(): unknown {
    this.#stateCopy = undefined
    this.run(() => this.#hear?.({ t: 'checkpoint', n: PRIVATE }))
    return this.#stateCopy
  }

  freeze(): Promise<boolean> {
    this.#frozen = true
    return Promise.resolve(true)
  }

  raisePriority(): void {}

  thaw(): void {
    if (!this.#frozen) return
    this.#frozen = false
    const late = [...this.#late]
    this.#late.clear()
    queueMicrotask(() => {
      for (const call of late) this.run(call)
    })
  }

  async kill(): Promise<boolean> {
    this.end()
    return true
  }

  contained(): boolean {
    return true
  }

  end(): void {
    if (!this.alive) return
    // the successor then reads the end of the FIFO, as after the death of a process (HANDOVER 6.4)
    ftruncateSync(this.#places.handoverOut.fd)
    this.alive = false
    this.options.laptops.ended(this)
    this.#successor?.read()
    for (const fd of this.#fds) closeSync(fd)
    asBody(() => queueMicrotask(() => this.options.onExit()))
  }

  #deliver(message: ToProgram): void {
    if (message.t !== 'arm') {
      this.#hear?.(message)
      return
    }
    // the file stands in for a FIFO: without this an older record would be read again
    ftruncateSync(this.#places.handoverIn.fd)
    this.#armed = () => this.#hear?.(message)
    this.#toSlot({ t: 'armed', swap: message.swap })
  }

  #toSlot(message: FromProgram): void {
    if (message.t === 'checkpoint' && message.n === PRIVATE) {
      const { state } = new StateReader(this.#places.outbox).read(message.snapshot)
      this.#stateCopy = decodeState(state, message.encoding)
      return
    }
    // encoded and parsed, as over the socket of a process
    const heard = parseFromProgram(JSON.stringify(message))
    this.fatal = lastWords(heard) ?? this.fatal
    if (heard === null) return this.end()
    const { time } = this.options
    const before = time.owner
    time.owner = null
    try {
      asBody(() => this.options.onMessage(heard))
    } finally {
      time.owner = before
    }
    if (message.t === 'yielded') this.#successor?.read()
  }

  /** Continues a takeover that waits: the record was written, or the predecessor has ended. */
  read(): void {
    const armed = this.#armed
    this.#armed = null
    if (armed !== null) queueMicrotask(() => this.run(armed))
  }
}
