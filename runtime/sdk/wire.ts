/**
 * The messages and records between body and program. Pure: bytes in, bytes out.
 *
 * Control messages are NDJSON on the child's descriptor 3 (HANDOVER 3). A handover is a fixed-size record in the
 * predecessor's FIFO (HANDOVER 6).
 */
import type { Grant, LastEdge } from '../../drivers/program/handle.ts'
import type { SavedChannels } from './messages.ts'
import type { ParamValue } from './params.ts'

/** Version of this protocol. A release states the version it was built with (HANDOVER 3.1). */
export const WIRE = 3
/** `code` of the error for an effect that is allowed only while the program drives the hardware (HANDOVER 13.2). */
export const NOT_LIVE = 'ERR_NOT_LIVE'
export const SDK_VERSION = '0.1.0'

/** HANDOVER 3.2: a longer line ends the program. */
export const MAX_LINE = 64 * 1024
/** HANDOVER 3.5: log text is cut here. */
export const MAX_LOG_TEXT = 4096

/** The child's descriptor table (HANDOVER 3.3). 0 is /dev/null, 1 and 2 are the log pipes; there are no holes. */
export const FD = {
  control: 3,
  broker: 4,
  outbox: 5,
  inbox: 6,
  handoverOut: 7,
  handoverIn: 8,
  predecessor: 9,
  scratch: 10,
  firstGrant: 11,
} as const

/** The first message to every child, before it has a program (HANDOVER 3.7). */
export interface SandboxMessage {
  t: 'sandbox'
  grants: Grant[]
  /**
   * The loader installs the filter, or checks that it is installed, and imports the program only when confined
   * (HANDLES 13.7). null: this robot does not confine its programs.
   */
  confine: { network: boolean; filter: 'install' | 'installed' } | null
  /** Descriptor of the listening socket for message channels; absent: this robot has none (CHANNEL 12.2). */
  channels?: number
}

export interface InitMessage {
  t: 'init'
  wire: number
  /** Path of the program file. */
  file: string
  /** Path of the slot's data folder. */
  dataDir: string
  slot: string
  program: string
  version: string
  /** Number of this child in its slot, counted from 1. */
  generation: number
  role: 'first' | 'candidate'
  heartbeatMs: number
  rehearsals: number
  brokerDeadlineMs: number
  /** How long the ends of `onLive` are awaited before a yield. */
  endMs: number
  /** How long `onStop` and the ends of `onLive` are awaited at a stop. */
  stopMs: number
  params: Record<string, ParamValue>
}

/** Before `init`: one config value that the manifest names (HANDOVER 15.2). */
export interface ConfigMessage {
  t: 'config'
  name: string
  value: string
}

/** What the loader collects from the first messages for the SDK. */
export type Init = InitMessage &
  Omit<SandboxMessage, 't'> & {
    /** Absent: the loader of an older runtime. */
    config?: Readonly<Record<string, string>>
  }

/** Where a snapshot lies in an outbox or inbox (HANDOVER 5). */
export interface Snapshot {
  metaLength: number
  chunkCount: number
  length: number
  /** hex SHA-256 of meta and chunk list */
  root: string
}

/** What the successor needs besides the state to go on without a jump (HANDOVER 5.4). */
export interface Meta {
  stateVersion: number
  encoding: 'json' | 'bytes'
  /** last value written to each output, by handle name */
  values: Record<string, number>
  /** last edge seen of each input, by handle name */
  seqnos: Record<string, number>
  /** tick schedule: period, next deadline and last tick, ns of CLOCK_MONOTONIC */
  schedule: { ms: number; dueNs: number; lastNs: number }[]
  /** last edge of each input that had one, by handle name (HANDLES 3.13); programs of older releases have none */
  edges?: LastEdges
  /** message channels that laptops have with the program; only in what a program hands over (CHANNEL 12.8) */
  channels?: SavedChannels | undefined
}

export type LastEdges = Readonly<Record<string, LastEdge>>

/** The values to which outputs are driven, by handle name (HANDOVER 7.8). */
export type Values = Readonly<Record<string, number>>

export type ToProgram =
  | SandboxMessage
  | ConfigMessage
  | InitMessage
  /** first program of a slot: go, with a checkpoint in the inbox or without one */
  | {
      t: 'start'
      fence: number
      why: 'start' | 'restart'
      snapshot: Snapshot | null
      values: Values
      edges?: LastEdges
    }
  /** running program: write a snapshot ahead for a reader of this state version (0: it has none), keep running */
  | { t: 'copy'; swap: string; stateVersion: number }
  /**
   * candidate: read the predecessor's snapshot, try to decode and migrate it. `own` is set when the predecessor is a program of
   * another name: then use this program's own snapshot in the inbox, or the initial state (null)
   */
  | { t: 'preload'; swap: string; snapshot: Snapshot; own?: Snapshot | null }
  /** candidate: block on the FIFO until the record of this swap and fence arrives */
  | { t: 'arm'; swap: string; fence: number }
  /** running program: hand over at the next safe point; to the successor, or (rollback) to the body */
  | { t: 'yield'; swap: string; fence: number; to: 'successor' | 'body'; stateVersion: number }
  /** parked program: go on with this fence, from the inbox or from where it parked */
  | { t: 'resume'; fence: number; snapshot: Snapshot | null; values: Values }
  | { t: 'checkpoint'; n: number }
  | { t: 'edge'; id: number; level: 0 | 1; ns: string; seqno: number }
  /** new values of parameters, all for the same tick (HANDOVER 11.3) */
  | { t: 'params'; values: Record<string, ParamValue> }
  | { t: 'stop' }

export type FromProgram =
  /** sent by the loader: confined, waiting for `init` */
  | { t: 'waiting' }
  | { t: 'ready'; rehearsals: number; rehearseMs: number; note?: string }
  | { t: 'copied'; swap: string; snapshot: Snapshot }
  | { t: 'preloaded'; swap: string }
  | { t: 'armed'; swap: string }
  /** parked: the record, or the snapshot for the body, was written */
  | { t: 'yielded'; swap: string; snapshot: Snapshot; revokedNs: number; sentNs: number }
  /** taken over; times in ns of CLOCK_MONOTONIC, revokedNs and sentNs from the record; startedNs: `run` has returned */
  | {
      t: 'took'
      swap: string
      fence: number
      revokedNs: number
      sentNs: number
      receivedNs: number
      liveNs: number
      startedNs: number
      bytes: number
      changed: number
    }
  | { t: 'started'; fence: number }
  | { t: 'resumed'; fence: number; fromInbox: boolean }
  /** the step of this swap failed; this program has not taken over, or still runs */
  | { t: 'failed'; swap: string; code: FailCode; message: string }
  /** the old program ended before it handed over */
  | { t: 'orphan'; swap: string }
  | { t: 'checkpoint'; n: number; snapshot: Snapshot; stateVersion: number; encoding: 'json' | 'bytes' }
  /** heartbeat; `dropped`: log lines dropped since the last heartbeat */
  | { t: 'hb'; ticks: number; lateUs: number; overruns: number; dropped?: number }
  | { t: 'unhealthy'; reason: string }
  | { t: 'held'; swap: string; reason: string }
  | { t: 'log'; level: LogLevel; text: string }
  /** the part of the author's code that the first rehearsal calls next, so that the body can name a part that never returns */
  | { t: 'enter'; place: Entered }
  /** the program ends itself after an error; `stack` is for the log */
  | { t: 'fatal'; code: FailCode; message: string; stack?: string }

export const ENTERED = ['run', 'every', 'rehearsed'] as const
export type Entered = (typeof ENTERED)[number]
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]
export const FAIL_CODES = ['died-at-start', 'died-in-trial', 'migrate-failed', 'bad-state', 'takeover-failed'] as const
export type FailCode = (typeof FAIL_CODES)[number]

export const RECORD_SIZE = 128
/** A record begins with `MDHS` (state) or `MDHA` (ahead), here as little-endian numbers. */
const [MAGIC, STATE] = [Buffer.from('MDH'), 0x5348444d]
const AHEAD = 0x4148444d
const SWAP_AT = 56
const ROOT_AT = 72

export interface HandoverRecord {
  /** `ahead` comes shortly before `state`: a snapshot to warm up with, which does not hand over (HANDOVER 6.9) */
  kind: 'ahead' | 'state'
  /** 32 hex digits */
  swap: string
  fence: number
  snapshot: Snapshot
  revokedNs: number
  sentNs: number
}

/** One record, as bytes and as numbers over the same buffer. Both ends are on one machine, so byte order does not matter. */
export class RecordBuffer {
  readonly bytes = Buffer.from(new ArrayBuffer(RECORD_SIZE))
  readonly #u32 = new Uint32Array(this.bytes.buffer)
  readonly #f64 = new Float64Array(this.bytes.buffer)

  encode({ kind, swap, fence, snapshot, revokedNs, sentNs }: HandoverRecord): void {
    this.#u32[0] = kind === 'state' ? STATE : AHEAD
    this.#u32[1] = WIRE
    this.#f64[1] = fence
    this.#f64[2] = snapshot.metaLength
    this.#f64[3] = snapshot.chunkCount
    this.#f64[4] = snapshot.length
    this.#f64[5] = revokedNs
    this.#f64[6] = sentNs
    this.bytes.write(swap, SWAP_AT, 16, 'hex')
    this.bytes.write(snapshot.root, ROOT_AT, 32, 'hex')
  }

  /**
   * Resynchronises after rubbish in the FIFO (HANDOVER 6.11): drops the bytes before a possible beginning of a record, moves
   * the remaining bytes to the front, and returns their number.
   */
  skip(length: number): number {
    for (let at = length === RECORD_SIZE ? 1 : 0; at < length; at++) {
      const some = Math.min(MAGIC.length, length - at)
      if (this.bytes.compare(MAGIC, 0, some, at, at + some) !== 0) continue
      this.bytes.copyWithin(0, at, length)
      return length - at
    }
    return 0
  }

  /** Null if the bytes are not a record of this version; the reader then skips them (HANDOVER 6.4). */
  decode(): HandoverRecord | null {
    const magic = this.#u32[0]
    if ((magic !== STATE && magic !== AHEAD) || this.#u32[1] !== WIRE) return null
    const kind = magic === STATE ? 'state' : 'ahead'
    const [, fence = 0, metaLength = 0, chunkCount = 0, length = 0, revokedNs = 0, sentNs = 0] = this.#f64
    const root = this.bytes.toString('hex', ROOT_AT, ROOT_AT + 32)
    const snapshot = { metaLength, chunkCount, length, root }
    return { kind, swap: this.bytes.toString('hex', SWAP_AT, ROOT_AT), fence, snapshot, revokedNs, sentNs }
  }
}
