/**
 * Invariant: a simulated program is what its slot sees of a process: it hears the same messages in the same order, its
 * files are those of a run folder, and nothing of it runs while it is frozen or after its end.
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
import type { Declared } from '../sdk/hosts.ts'
import { decodeState } from '../sdk/state.ts'
import { StateReader } from '../sdk/statearea.ts'
import type { Ticker } from '../sdk/ticker.ts'
import { type FromProgram, type Init, type ToProgram, WIRE } from '../sdk/wire.ts'
import { explained } from './places.ts'
import { gatePort } from './rehearsals.ts'
import { asBody, asProgram, type Owner, type Time } from './time.ts'

export interface ActorOptions {
  readonly time: Time
  readonly dir: RunDir
  readonly handles: readonly OwnedHandle[]
  readonly predecessor: Actor | null
  readonly init: Omit<Init, 't' | 'wire' | 'file' | 'grants' | 'role' | 'confine'>
  onMessage(message: FromProgram): void
  onExit(): void
  /** What the program threw, with its stack, before the slot hears of it. */
  onThrown(error: unknown): void
}

/** A checkpoint that nobody but the test has asked for. */
const PRIVATE = -1

export class Actor implements ProgramInstance, Owner {
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
  /** HANDOVER 6.4: it would block in read(2) until the record is there. */
  #armed: (() => void) | null = null
  #successor: Actor | null = null
  #asked: unknown = null

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

  /** The deadline of its next tick, in ns; infinite while it has none. */
  get dueNs(): number {
    return this.ticker?.running && this.alive && !this.#frozen ? this.ticker.dueNs : Number.POSITIVE_INFINITY
  }

  start(program: Declared): void {
    const { handles, init, predecessor } = this.options
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
      gate: gatePort(),
      pace: (ticker) => {
        this.ticker = ticker
      },
      send: (message) => this.#tell(message),
      explain: explained,
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

  /** As an exception that nobody catches ends a process. */
  caught(error: unknown): void {
    if (!this.alive) return
    this.options.onThrown(error)
    this.#uncaught(error)
  }

  tick(): void {
    const { ticker } = this
    if (ticker !== null) this.run(() => ticker.fire())
  }

  /** What comes from outside is heard at once, what comes of the doings of a program or its slot after them. */
  send(message: ToProgram): void {
    const hear = () => this.run(() => this.#deliver(message))
    if (this.options.time.owner === null && (message.t === 'edge' || message.t === 'params')) hear()
    else queueMicrotask(hear)
  }

  /** A copy of the state, as a swap would carry it. Throws what the swap would say. */
  state(): unknown {
    this.#asked = undefined
    this.run(() => this.#hear?.({ t: 'checkpoint', n: PRIVATE }))
    return this.#asked
  }

  freeze(): Promise<boolean> {
    this.#frozen = true
    return Promise.resolve(true)
  }

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
    // nothing comes through its FIFO any more (HANDOVER 6.4)
    ftruncateSync(this.#places.handoverOut.fd)
    this.alive = false
    this.#successor?.read()
    for (const fd of this.#fds) closeSync(fd)
    asBody(() => queueMicrotask(() => this.options.onExit()))
  }

  #deliver(message: ToProgram): void {
    if (message.t !== 'arm') {
      this.#hear?.(message)
      return
    }
    // an older record would be read again and again
    ftruncateSync(this.#places.handoverIn.fd)
    this.#armed = () => this.#hear?.(message)
    this.#tell({ t: 'armed', swap: message.swap })
  }

  #tell(message: FromProgram): void {
    if (message.t === 'checkpoint' && message.n === PRIVATE) {
      const { state } = new StateReader(this.#places.outbox).read(message.snapshot)
      this.#asked = decodeState(state, message.encoding)
      return
    }
    // as it would come through the socket of a process
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

  /** The record is there, or there will be none. */
  read(): void {
    const armed = this.#armed
    this.#armed = null
    if (armed !== null) queueMicrotask(() => this.run(armed))
  }
}
