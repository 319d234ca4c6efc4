/**
 * Invariant: the lease is live only between a takeover (or start, or resume) and the next yield; it is revoked before
 * the record of a handover is written (design invariant "Writer", HANDOVER 4.1, 6.1).
 */
import { readSync, writeSync } from 'node:fs'
import type { Handle, Lease } from '../../drivers/handle.ts'
import { deliverEdge, setCarried } from '../../drivers/inherit/index.ts'
import { adoptAll } from './grants.ts'
import { Instance, type Surroundings } from './instance.ts'
import { rehearse } from './rehearsal.ts'
import type { Needs, Params, RobotSpec } from './spec.ts'
import { decodeState, encodeState, messageOf, migrateDown, migrateUp, ProgramFailure, unserialisable } from './state.ts'
import { Outbox, StateError, StateReader } from './statearea.ts'
import { monotonicNs } from './ticker.ts'
import {
  decodeRecord,
  encodeRecord,
  type FailCode,
  FD,
  type FromProgram,
  type HandoverRecord,
  type Init,
  type LogLevel,
  MAX_LOG_TEXT,
  type Meta,
  RECORD_SIZE,
  type Snapshot,
  type ToProgram,
} from './wire.ts'

/** What the loader provides (loader.ts). */
export interface Host {
  readonly init: Init
  send(message: FromProgram): void
  listen(onMessage: (message: ToProgram) => void): void
}

type Yield = Extract<ToProgram, { t: 'yield' }>
type AnySpec = RobotSpec<Needs, unknown, Params>

const failCode = (error: unknown, otherwise: FailCode): FailCode =>
  error instanceof ProgramFailure ? error.code : error instanceof StateError ? 'bad-state' : otherwise

export class Program {
  readonly #spec: AnySpec
  readonly #host: Host
  readonly #lease: Lease = { live: false, fence: 0 }
  readonly #handles: ReadonlyMap<string, Handle>
  readonly #outbox = new Outbox(FD.outbox)
  readonly #inbox = new StateReader(FD.inbox)
  readonly #predecessor = new StateReader(FD.predecessor)
  readonly #record = Buffer.alloc(RECORD_SIZE)
  readonly #seqnos: Record<string, number> = {}
  readonly #params: Record<string, unknown>
  #instance: Instance | null = null
  #yield: Yield | null = null
  /** The swap whose hold was already reported. */
  #told = ''

  constructor(spec: AnySpec, host: Host) {
    this.#spec = spec
    this.#host = host
    this.#params = { ...spec.params, ...host.init.params }
    this.#handles = adoptAll(host.init, this.#lease)
    process.on('uncaughtException', (error) => this.#uncaught(error))
    try {
      this.#rehearse()
    } catch (error) {
      this.#fatal(failCode(error, 'died-at-start'), error)
      return
    }
    host.listen((message) => this.#hear(message))
    setInterval(() => this.#heartbeat(), host.init.heartbeatMs)
  }

  #rehearse(): void {
    const began = monotonicNs()
    const initial = this.#spec.state?.initial() ?? {}
    const lost = initial instanceof Uint8Array ? null : unserialisable(initial)
    if (lost !== null) throw new ProgramFailure('bad-state', `the state cannot be handed over: ${lost}`)
    const { rounds, note } = rehearse(this.#spec, this.#host.init, this.#outbox, this.#params, null)
    const ready: FromProgram = { t: 'ready', rehearsals: rounds, rehearseMs: (monotonicNs() - began) / 1e6 }
    this.#host.send(note === null ? ready : { ...ready, note })
  }

  #hear(message: ToProgram): void {
    switch (message.t) {
      case 'start':
        return this.#start(message.fence, message.snapshot)
      case 'copy':
        return this.#copy(message.swap)
      case 'preload':
        return this.#preload(message.swap, message.snapshot)
      case 'arm':
        this.#host.send({ t: 'armed', swap: message.swap })
        return this.#takeOver(message.swap, message.fence)
      case 'yield':
        this.#yield = message
        this.#instance?.ticker.poke()
        return
      case 'keep':
        if (this.#yield?.swap === message.swap) this.#yield = null
        return
      case 'resume':
        return this.#resume(message.fence, message.snapshot)
      case 'checkpoint':
        return this.#checkpoint(message.n)
      case 'edge':
        return this.#edge(message)
      case 'param':
        if (message.name in this.#params) this.#params[message.name] = message.value
        return
      case 'stop':
        return this.#stop()
      case 'init':
        return
    }
  }

  #surroundings(): Surroundings {
    return {
      init: this.#host.init,
      handles: this.#handles,
      lease: this.#lease,
      params: this.#params,
      log: (text, level) => this.#log(text, level),
      between: () => this.#between(),
      released: () => this.#instance?.ticker.poke(),
    }
  }

  /** Makes a live instance over a decoded state; program code runs from here on. Returns when it became live. */
  #goLive(state: unknown, meta: Meta | null, fence: number, tookOver: boolean): number {
    const instance = new Instance(this.#spec, this.#surroundings(), state)
    if (meta !== null) {
      for (const name in meta.values) {
        const handle = this.#handles.get(name)
        if (handle !== undefined) setCarried(handle, meta.values[name] as number)
      }
      Object.assign(this.#seqnos, meta.seqnos)
    }
    this.#instance = instance
    this.#lease.fence = fence
    this.#lease.live = true
    const live = monotonicNs()
    instance.begin(tookOver)
    instance.ticker.align(meta?.schedule ?? [], live)
    return live
  }

  #load(reader: StateReader, snapshot: Snapshot): { state: unknown; meta: Meta; changed: number } {
    const { meta, state, changed } = reader.read(snapshot)
    return { state: migrateUp(this.#spec.state, decodeState(state, meta.encoding), meta.stateVersion), meta, changed }
  }

  #start(fence: number, snapshot: Snapshot | null): void {
    try {
      const loaded = snapshot === null ? null : this.#load(this.#inbox, snapshot)
      // a crash, not a swap: the schedule of a dead program means nothing
      const meta = loaded === null ? null : { ...loaded.meta, schedule: [] }
      this.#goLive(loaded === null ? (this.#spec.state?.initial() ?? {}) : loaded.state, meta, fence, false)
    } catch (error) {
      return this.#fatal(failCode(error, 'died-at-start'), error)
    }
    this.#host.send({ t: 'started', fence })
    this.#instance?.ticker.start()
  }

  #copy(swap: string): void {
    if (this.#instance === null) return
    const { bytes, meta } = this.#instance.encode(this.#seqnos)
    const { changed: _, ...snapshot } = this.#outbox.write(bytes, meta)
    this.#host.send({ t: 'copied', swap, snapshot })
  }

  /** HANDOVER 4.4: everything that can fail in a takeover is tried on the real state while the old program still runs. */
  #preload(swap: string, snapshot: Snapshot): void {
    try {
      const { meta, state } = this.#predecessor.read(snapshot)
      // a copy: program code may change it, and the reader's bytes must stay what their hashes say
      const tried = migrateUp(this.#spec.state, decodeState(Buffer.from(state), meta.encoding), meta.stateVersion)
      rehearse(this.#spec, this.#host.init, this.#outbox, this.#params, { state: tried, meta })
      this.#host.send({ t: 'preloaded', swap })
    } catch (error) {
      this.#host.send({ t: 'failed', swap, code: failCode(error, 'takeover-failed'), message: messageOf(error) })
    }
  }

  /** HANDOVER 6: blocks in read(2) until the predecessor's record is there. */
  #takeOver(swap: string, fence: number): void {
    const fail = (code: FailCode, message: string) => this.#host.send({ t: 'failed', swap, code, message })
    let record: HandoverRecord | null
    do {
      if (readSync(FD.handoverIn, this.#record, 0, RECORD_SIZE, null) === 0) {
        return this.#host.send({ t: 'orphan', swap })
      }
      record = decodeRecord(this.#record)
      // HANDOVER 6.4: a record of another swap is skipped
    } while (record === null || record.swap !== swap || record.fence !== fence)
    const receivedNs = monotonicNs()
    let loaded: { state: unknown; meta: Meta; changed: number }
    try {
      loaded = this.#load(this.#predecessor, record.snapshot)
    } catch (error) {
      return fail(failCode(error, 'takeover-failed'), messageOf(error))
    }
    let liveNs: number
    try {
      liveNs = this.#goLive(loaded.state, loaded.meta, fence, true)
    } catch (error) {
      return this.#fatal(failCode(error, 'died-in-trial'), error)
    }
    this.#host.send({
      t: 'took',
      swap,
      fence,
      revokedNs: record.revokedNs,
      sentNs: record.sentNs,
      receivedNs,
      liveNs,
      startedNs: monotonicNs(),
      bytes: record.snapshot.length,
      changed: loaded.changed,
    })
    this.#instance?.ticker.start()
  }

  #between(): boolean {
    const wanted = this.#yield
    const instance = this.#instance
    if (wanted === null || instance === null) return true
    const [reason] = instance.holds.values()
    if (reason !== undefined) {
      if (this.#told !== wanted.swap) this.#host.send({ t: 'held', swap: wanted.swap, reason })
      this.#told = wanted.swap
      return true
    }
    this.#yield = null
    return !this.#handOver(wanted, instance)
  }

  /** True when parked; false when the handover failed and this program goes on. */
  #handOver(wanted: Yield, instance: Instance): boolean {
    this.#lease.live = false
    const revokedNs = monotonicNs()
    try {
      const { bytes, meta } =
        wanted.to === 'body' ? this.#encodeDown(wanted.stateVersion) : instance.encode(this.#seqnos)
      const snapshot = this.#outbox.write(bytes, meta)
      const sentNs = monotonicNs()
      if (wanted.to === 'successor') {
        const { swap, fence } = wanted
        encodeRecord({ swap, fence, snapshot, revokedNs, sentNs }, this.#record)
        writeSync(FD.handoverOut, this.#record)
      }
      const { changed: _, ...rest } = snapshot
      this.#host.send({ t: 'yielded', swap: wanted.swap, snapshot: rest, revokedNs, sentNs })
      return true
    } catch (error) {
      // HANDOVER 6.8: nobody has the record, so this program is still the only writer
      this.#lease.live = true
      const code = failCode(error, 'takeover-failed')
      this.#host.send({ t: 'failed', swap: wanted.swap, code, message: messageOf(error) })
      return false
    }
  }

  #encodeDown(version: number): { bytes: Uint8Array; meta: Meta } {
    const instance = this.#instance as Instance
    const { bytes, encoding } = encodeState(migrateDown(this.#spec.state, instance.state, version))
    return { bytes, meta: { ...instance.encode(this.#seqnos).meta, stateVersion: version, encoding } }
  }

  /** HANDOVER 7.4: back from a parked state, or with the successor's migrated one. */
  #resume(fence: number, snapshot: Snapshot | null): void {
    this.#yield = null
    try {
      const parked = this.#instance
      if (parked !== null && this.#lease.live) {
        // called off before it yielded: it never stopped
        this.#lease.fence = fence
      } else if (snapshot === null && parked !== null) {
        this.#lease.fence = fence
        this.#lease.live = true
        parked.ticker.align([], monotonicNs())
      } else if (snapshot !== null) {
        const loaded = this.#load(this.#inbox, snapshot)
        this.#goLive(loaded.state, loaded.meta, fence, true)
      } else throw new ProgramFailure('takeover-failed', 'resumed before it ever ran')
    } catch (error) {
      return this.#fatal(failCode(error, 'takeover-failed'), error)
    }
    this.#host.send({ t: 'resumed', fence, fromInbox: snapshot !== null })
    this.#instance?.ticker.start()
  }

  #checkpoint(n: number): void {
    if (this.#instance === null || !this.#lease.live) return
    const lost = this.#instance.state instanceof Uint8Array ? null : unserialisable(this.#instance.state)
    if (lost !== null) return this.#log(`checkpoint skipped: ${lost}`, 'error')
    const { bytes, meta } = this.#instance.encode(this.#seqnos)
    const { changed: _, ...snapshot } = this.#outbox.write(bytes, meta)
    const { stateVersion, encoding } = meta
    this.#host.send({ t: 'checkpoint', n, snapshot, stateVersion, encoding })
  }

  #edge(message: Extract<ToProgram, { t: 'edge' }>): void {
    const grant = this.#host.init.grants.find((g) => g.id === message.id)
    const handle = grant && this.#handles.get(grant.name)
    // HANDOVER 6.6: an edge that the predecessor saw is not seen again
    if (grant === undefined || handle === undefined || message.seqno <= (this.#seqnos[grant.name] ?? 0)) return
    if (!this.#lease.live) return
    this.#seqnos[grant.name] = message.seqno
    deliverEdge(handle, { level: message.level, ns: BigInt(message.ns), seqno: message.seqno })
  }

  #heartbeat(): void {
    const instance = this.#instance
    if (instance === null || !this.#lease.live) return
    const reason = instance.unhealthy()
    if (reason !== null) this.#host.send({ t: 'unhealthy', reason })
    const { count, overruns, lateUs } = instance.ticker
    instance.ticker.lateUs = 0
    this.#host.send({ t: 'hb', ticks: count, lateUs: Math.round(lateUs), overruns })
  }

  #stop(): void {
    this.#instance?.ticker.stop()
    try {
      for (const stop of this.#instance?.stops ?? []) stop()
    } catch (error) {
      this.#log(`onStop failed: ${messageOf(error)}`, 'error')
    }
    process.exit(0)
  }

  #log(text: string, level: LogLevel): void {
    this.#host.send({ t: 'log', level, text: text.slice(0, MAX_LOG_TEXT) })
  }

  /** A late callback of a parked program finds its handles revoked: that is the fence working, not a crash. */
  #uncaught(error: unknown): void {
    const revoked = error instanceof Error && (error as { kind?: unknown }).kind === 'revoked'
    if (revoked && !this.#lease.live && this.#instance !== null) return
    this.#fatal('died-in-trial', error)
  }

  #fatal(code: FailCode, error: unknown): void {
    this.#lease.live = false
    const message = messageOf(error)
    const at =
      error instanceof Error ? (error.stack?.split('\n').find((line) => line.includes('program.mjs')) ?? '') : ''
    this.#host.send({ t: 'fatal', code, message: `${message}${at && ` (${at.trim()})`}`.slice(0, MAX_LOG_TEXT) })
    process.exit(1)
  }
}
