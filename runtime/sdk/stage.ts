/**
 * Invariant: the lease is live only between `take` (or `begin`, or `resume`) and `give`, and `give` ends the lease before it
 * writes the record (HANDOVER 4.1, 6.1; test/e2e/swap.test.ts, test/kernel/swaps.rig.ts).
 *
 * A stage is a set of handles under one lease, with the instance that uses them. The live program has one stage. Each
 * rehearsal makes two on dummy handles and swaps between them, so that the code of the gap is compiled before (HANDOVER 4.2).
 */
import { readSync, writeSync } from 'node:fs'
import type { Handle, Lease } from '../../drivers/program/handle.ts'
import { deliverEdge, setCarried, unlisten } from '../../drivers/program/inherit/index.ts'
import { setLastEdge } from '../../drivers/program/lastedge.ts'
import type { AnySpec, Mailbox, StageHooks } from './hooks.ts'
import { Instance } from './instance.ts'
import type { SavedChannels } from './messages.ts'
import { complete, type ParamValue, paramsView } from './params.ts'
import { decodeState, encodeState, migrateDown, migrateUp } from './state.ts'
import type { Outbox, StateReader } from './statearea.ts'
import { clockNs } from './ticker.ts'
import {
  type HandoverRecord,
  type Init,
  type LastEdges,
  type Meta,
  RECORD_SIZE,
  RecordBuffer,
  type Snapshot,
  type ToProgram,
  type Values,
} from './wire.ts'

type EdgeMessage = Extract<ToProgram, { t: 'edge' }>

export interface HandedOver {
  snapshot: Snapshot
  revokedNs: number
  sentNs: number
}
export interface TakenOver {
  record: HandoverRecord
  receivedNs: number
  liveNs: number
  changed: number
}

export class Stage {
  readonly spec: AnySpec
  readonly init: Init
  readonly handles: ReadonlyMap<string, Handle>
  readonly lease: Lease
  readonly params: Readonly<Record<string, ParamValue>>
  readonly seqnos: Record<string, number> = {}
  instance: Instance | null = null
  /** Set when the predecessor is a program of another name (HANDOVER 5.9): this program's own last state; null: the initial one. */
  own: { meta: Meta; state: Buffer } | null | undefined
  readonly #hooks: StageHooks
  readonly #record = new RecordBuffer()

  constructor(spec: AnySpec, init: Init, handles: ReadonlyMap<string, Handle>, lease: Lease, hooks: StageHooks) {
    this.spec = spec
    this.init = init
    this.handles = handles
    this.lease = lease
    // all stages of a program share this record, so a change reaches the live stage and every rehearsal
    this.params = paramsView(complete(init.params, spec.params))
    this.#hooks = hooks
  }

  /**
   * Makes the lease live and calls `run`, on an initial state (`meta` null) or a decoded one. `edges`: the last edges as the
   * body knows them, when no predecessor hands them over. Returns the time at which the lease became live.
   */
  begin(state: unknown, meta: Meta | null, fence: number, tookOver: boolean, edges?: LastEdges): number {
    // the program resumes with its successor's state: `run` is called again, with the same handles (HANDOVER 7.4)
    if (this.instance !== null) for (const handle of this.handles.values()) unlisten(handle)
    const instance = new Instance(this, this.#hooks, state)
    if (meta !== null) {
      this.carry(meta.values)
      Object.assign(this.seqnos, meta.seqnos)
      this.#hooks.channels?.restore(meta.channels)
    }
    this.instance = instance
    this.lease.fence = fence
    this.lease.live = true
    const live = clockNs()
    this.#carryEdges(edges ?? meta?.edges ?? {}, live)
    instance.begin(tookOver)
    instance.ticker.align(meta?.schedule ?? [], live)
    return live
  }

  /** Tells the handles the present values of their outputs, without writing them (HANDLES 3.6). */
  carry(values: Values): void {
    for (const name in values) {
      const handle = this.handles.get(name)
      if (handle !== undefined) setCarried(handle, values[name] as number)
    }
  }

  /** Tells input handles the last edge before the takeover (HANDLES 3.13). */
  #carryEdges(edges: LastEdges, now: number): void {
    for (const name in edges) {
      const [handle, edge] = [this.handles.get(name), edges[name]]
      if (handle === undefined || edge === undefined) continue
      setLastEdge(handle, { ...edge, counted: edge.counted ?? Math.max(0, now - edge.ns) / 1e9 })
    }
  }

  /** Gives an edge to the handle whose grant has this id, once: the predecessor has seen edges up to a number (HANDOVER 6.6). */
  edge({ id, level, ns, seqno }: EdgeMessage): void {
    const name = this.init.grants.find((grant) => grant.id === id)?.name ?? ''
    const handle = this.handles.get(name)
    if (handle === undefined || !this.lease.live || seqno <= (this.seqnos[name] ?? 0)) return
    this.seqnos[name] = seqno
    deliverEdge(handle, { level, ns: BigInt(ns), seqno })
  }

  textOf(error: unknown): string {
    return this.#hooks.textOf(error)
  }

  /** `copy`: to be set when the reader will read again, because the state may be a view of the reader's buffer. */
  load(reader: StateReader, snapshot: Snapshot, copy = false): { state: unknown; meta: Meta; changed: number } {
    const { meta, state: view, changed } = reader.read(snapshot)
    const decoded = decodeState(copy ? Buffer.from(view) : view, meta.encoding)
    return { state: migrateUp(this.spec.state, decoded, meta.stateVersion), meta, changed }
  }

  /** State and meta for a takeover: the predecessor's, but this program's own state if the predecessor has another name. */
  inherit(reader: StateReader, snapshot: Snapshot, copy = false): { state: unknown; meta: Meta; changed: number } {
    const { own } = this
    if (own === undefined) return this.load(reader, snapshot, copy)
    const { meta, changed } = reader.read(snapshot)
    const { state: spec } = this.spec
    const state =
      own === null
        ? (spec?.initial() ?? {})
        : migrateUp(spec, decodeState(Buffer.from(own.state), own.meta.encoding), own.meta.stateVersion)
    return { state, meta: { ...meta, schedule: [] }, changed }
  }

  /** Writes a snapshot. `version` is the reader's state version: for an older one the state is migrated down. */
  snapshot(outbox: Outbox, version: number | null, channels?: SavedChannels): { snapshot: Snapshot; meta: Meta } {
    const instance = this.instance as Instance
    let { bytes, meta } = instance.encode(this.seqnos)
    meta.channels = channels
    // a reader without state (0) ignores the snapshot's; a newer reader migrates up by itself (HANDOVER 5.6)
    if (version !== null && version > 0 && version < meta.stateVersion) {
      const down = encodeState(migrateDown(this.spec.state, instance.state, version))
      bytes = down.bytes
      meta = { ...meta, stateVersion: version, encoding: down.encoding }
    }
    const { changed: _, ...snapshot } = outbox.write(bytes, meta)
    return { snapshot, meta }
  }

  /** Ends the lease, writes the state, then the record. Throws with the lease ended when a write fails (HANDOVER 6.8). */
  give(outbox: Outbox, to: Mailbox, swap: string, fence: number, version: number | null): HandedOver {
    this.lease.live = false
    const revokedNs = clockNs()
    const { snapshot } = this.snapshot(outbox, version, this.#hooks.channels?.save())
    const sentNs = clockNs()
    this.#write(to, { kind: 'state', swap, fence, snapshot, revokedNs, sentNs })
    return { snapshot, revokedNs, sentNs }
  }

  /** Gives the successor a snapshot to warm up with; the lease stays live (HANDOVER 6.9). */
  giveAhead(outbox: Outbox, to: Mailbox, swap: string, fence: number, version: number): void {
    const { snapshot } = this.snapshot(outbox, version)
    this.#write(to, { kind: 'ahead', swap, fence, snapshot, revokedNs: 0, sentNs: 0 })
  }

  /** Like `give`, but for the body, which reads the snapshot without a record (HANDOVER 7.2). */
  giveBack(outbox: Outbox, version: number): HandedOver {
    this.lease.live = false
    const revokedNs = clockNs()
    const { snapshot } = this.snapshot(outbox, version, this.#hooks.channels?.save())
    return { snapshot, revokedNs, sentNs: clockNs() }
  }

  /**
   * Blocks in read(2) until the record of this swap comes (HANDOVER 6.4), loads the state and goes live. Null when the
   * predecessor ended without a record. Throws StateError or ProgramFailure before the lease is live, the program's own errors
   * after. `ahead` is called with a snapshot to warm up with.
   */
  take(
    from: Mailbox,
    reader: StateReader,
    swap: string,
    fence: number,
    ahead: (snapshot: Snapshot) => void,
  ): TakenOver | null {
    let record: HandoverRecord | null = null
    let have = 0
    for (;;) {
      const got = readSync(from.fd, this.#record.bytes, have, RECORD_SIZE - have, from.position)
      if (got === 0) return null
      have += got
      record = have === RECORD_SIZE ? this.#record.decode() : null
      have = record === null ? this.#record.skip(have) : 0
      if (record === null || record.swap !== swap || record.fence !== fence) continue
      if (record.kind === 'state') break
      ahead(record.snapshot)
    }
    const receivedNs = clockNs()
    const { state, meta, changed } = this.inherit(reader, record.snapshot)
    const liveNs = this.begin(state, meta, fence, true)
    return { record, receivedNs, liveNs, changed }
  }

  #write({ fd, position }: Mailbox, record: HandoverRecord): void {
    this.#record.encode(record)
    writeSync(fd, this.#record.bytes, 0, RECORD_SIZE, position)
  }
}
