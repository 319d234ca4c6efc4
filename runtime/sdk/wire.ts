/**
 * Invariant: what crosses between body and program is one of these messages or one of these records, and nothing else.
 *
 * Control messages are NDJSON on the child's descriptor 3 (HANDOVER 3). A handover is one fixed-size record in the
 * predecessor's FIFO (HANDOVER 6). This file is pure: bytes in, bytes out.
 */
import type { Grant } from '../../drivers/handle.ts'

/** Version of this protocol; a release states the one it was built with (HANDOVER 3.1). */
export const WIRE = 1
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

export interface Init {
  t: 'init'
  wire: number
  /** Path of the program file. */
  file: string
  slot: string
  program: string
  version: string
  /** Lifetime number of this child in its slot, from 1. */
  generation: number
  role: 'first' | 'candidate'
  grants: Grant[]
  heartbeatMs: number
  rehearsals: number
  brokerDeadlineMs: number
  params: Record<string, unknown>
}

/** Where a snapshot lies in an outbox or inbox (HANDOVER 5). */
export interface Snapshot {
  metaLength: number
  chunkCount: number
  length: number
  /** hex SHA-256 of meta and chunk list */
  root: string
}

/** What goes with the state: everything the successor needs to go on as if nothing had happened (HANDOVER 5.4). */
export interface Meta {
  stateVersion: number
  encoding: 'json' | 'bytes'
  /** last value written to each output, by handle name */
  values: Record<string, number>
  /** last edge seen of each input, by handle name */
  seqnos: Record<string, number>
  /** tick schedule: period, next deadline and last tick, ns of CLOCK_MONOTONIC */
  schedule: { ms: number; dueNs: number; lastNs: number }[]
}

export type ToProgram =
  | Init
  /** first program of a slot: go, with a checkpoint in the inbox or without one */
  | { t: 'start'; fence: number; snapshot: Snapshot | null }
  /** running program: write a snapshot ahead for a reader of this state version (0: it has none), keep running */
  | { t: 'copy'; swap: string; stateVersion: number }
  /** candidate: read that snapshot, try to decode and migrate it */
  | { t: 'preload'; swap: string; snapshot: Snapshot }
  /** candidate: block on the FIFO until the record of this swap and fence arrives */
  | { t: 'arm'; swap: string; fence: number }
  /** running program: hand over at the next safe point; to the successor, or (rollback) to the body */
  | { t: 'yield'; swap: string; fence: number; to: 'successor' | 'body'; stateVersion: number }
  /** the yield is called off; a program that has not yielded yet goes on */
  | { t: 'keep'; swap: string }
  /** parked program: go on with this fence, from the inbox or from where it parked */
  | { t: 'resume'; fence: number; snapshot: Snapshot | null }
  | { t: 'checkpoint'; n: number }
  | { t: 'edge'; id: number; level: 0 | 1; ns: string; seqno: number }
  | { t: 'param'; name: string; value: unknown }
  | { t: 'stop' }

export type FromProgram =
  | { t: 'ready'; rehearsals: number; rehearseMs: number; note?: string }
  | { t: 'copied'; swap: string; snapshot: Snapshot }
  | { t: 'preloaded'; swap: string }
  | { t: 'armed'; swap: string }
  /** parked, the record (or the snapshot for the body) is out */
  | { t: 'yielded'; swap: string; snapshot: Snapshot; revokedNs: number; sentNs: number }
  /** times of CLOCK_MONOTONIC in ns: revoked (from the record), received, loaded, live */
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
  /** not taken: the record did not come, or could not be used */
  | { t: 'failed'; swap: string; code: FailCode; message: string }
  /** the old program ended before it handed over */
  | { t: 'orphan'; swap: string }
  | { t: 'checkpoint'; n: number; snapshot: Snapshot; stateVersion: number; encoding: 'json' | 'bytes' }
  | { t: 'hb'; ticks: number; lateUs: number; overruns: number }
  | { t: 'unhealthy'; reason: string }
  | { t: 'held'; swap: string; reason: string }
  | { t: 'log'; level: LogLevel; text: string }
  | { t: 'fatal'; code: FailCode; message: string }

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'
export const FAIL_CODES = ['died-at-start', 'died-in-trial', 'migrate-failed', 'bad-state', 'takeover-failed'] as const
export type FailCode = (typeof FAIL_CODES)[number]

export const RECORD_SIZE = 128
const MAGIC = 0x5248444d

export interface HandoverRecord {
  /** 32 hex digits */
  swap: string
  fence: number
  snapshot: Snapshot
  revokedNs: number
  sentNs: number
}

/** Fills `into` (RECORD_SIZE bytes); numbers are little-endian, times u64 ns. */
export function encodeRecord(record: HandoverRecord, into: Buffer): void {
  into.fill(0)
  into.writeUInt32LE(MAGIC, 0)
  into.writeUInt16LE(WIRE, 4)
  into.write(record.swap, 8, 16, 'hex')
  into.writeDoubleLE(record.fence, 24)
  into.writeUInt32LE(record.snapshot.metaLength, 32)
  into.writeUInt32LE(record.snapshot.chunkCount, 36)
  into.writeDoubleLE(record.snapshot.length, 40)
  into.writeDoubleLE(record.revokedNs, 48)
  into.writeDoubleLE(record.sentNs, 56)
  into.write(record.snapshot.root, 64, 32, 'hex')
}

/** Returns null for anything that is not a record of this version (HANDOVER 6.4: it is skipped). */
export function decodeRecord(from: Buffer): HandoverRecord | null {
  if (from.length !== RECORD_SIZE || from.readUInt32LE(0) !== MAGIC || from.readUInt16LE(4) !== WIRE) return null
  return {
    swap: from.toString('hex', 8, 24),
    fence: from.readDoubleLE(24),
    snapshot: {
      metaLength: from.readUInt32LE(32),
      chunkCount: from.readUInt32LE(36),
      length: from.readDoubleLE(40),
      root: from.toString('hex', 64, 96),
    },
    revokedNs: from.readDoubleLE(48),
    sentNs: from.readDoubleLE(56),
  }
}
