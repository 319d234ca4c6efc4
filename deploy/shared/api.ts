/**
 * The HTTP interface between laptop and robot: types that both sides use. All of it runs inside an established session
 * (CHANNEL.md); a stranger is served only `GET /` ({@link Greeting}).
 *
 * | route | role | body | answer |
 * |---|---|---|---|
 * | GET /v1/status | observer | | StatusReport |
 * | GET /v1/board | observer | | BoardReport (board.ts) |
 * | PUT /v1/slots/:slot/program | operator | bundle, Content-Length required; for force and retry the header Medulla-Order, base64url of a SignedOrder as JSON | NDJSON of PushEvent |
 * | GET /v1/operators | operator | | OperatorInfo[] |
 * | GET /v1/nonce | operator | | `{"nonce": "…"}`, for one order |
 * | POST /v1/orders | operator | SignedOrder | NDJSON: of PushEvent (start, rollback, release), one PinChange (set), one ParamReport (params), one ConfigInfo (set-config, unset-config), one OperatorInfo (the three of operators), one CounterRange (reset-floor) |
 * | POST /v1/slots/:slot/stop | observer | | NDJSON of PushEvent |
 * | POST /v1/estop | observer | | NDJSON of PushEvent |
 * | GET /v1/slots/:slot/releases | observer | | ReleaseInfo[], what runs first, then newest first, then what was never committed |
 * | GET /v1/slots/:slot/logs?lines=N&follow=1&since=TIME&ago=MS&level=LEVEL | observer | | NDJSON of LogLine |
 * | GET /v1/logs | observer | | the same, of all slots |
 * | GET /v1/slots/:slot/params | observer | | ParamReport |
 * | GET /v1/config | observer | | ConfigReport, without any value |
 * | GET /v1/slots/:slot/spare | operator | | NDJSON of SpareEvent; the slot has a spare child while it is read |
 * | GET /v1/programs/:program/counter | observer | | CounterRange |
 * | GET /v1/receipts?limit=N | observer | | NDJSON of SignedReceipt, oldest first |
 * | GET /v1/pins?follow=1&names=A,B | observer | | NDJSON of PinChange (first the present value of each handle) |
 *
 * A request that is refused before streaming starts is answered with a 4xx and {@link ErrorBody}.
 */
import type { SignedCertificate } from './cert.ts'
import type { RefusalCode } from './errors.ts'

export const PROTOCOL = 'medulla/1'
/** The header of a push that goes with an order. */
export const ORDER_HEADER = 'medulla-order'
export const DEFAULT_PORT = 7171
export const DEFAULT_SLOT = 'main'

/** Of a value that a robot keeps for its programs. */
export const CONFIG_NAME = /^[A-Z][A-Z0-9_]{0,63}$/

/** Of an operator on a robot; also the principal for `ssh-keygen -Y verify -I`, so nothing that OpenSSH reads as a pattern or a list. */
export const OPERATOR_NAME = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/

export interface Greeting {
  name: string
  id: string
  version: string
  protocol: typeof PROTOCOL
}
export interface ErrorBody {
  error: { code: RefusalCode; message: string; hint?: string }
}

/** In order of a swap; consecutive intervals, so they add up to the wall time (HANDOVER 1). */
export const PHASES = [
  'receive',
  'open',
  'verify',
  'stage',
  'spawn',
  'rehearse',
  'copy',
  'arm',
  'yield',
  'transfer',
  'takeover',
  'trial',
  'commit',
  'undo',
] as const
export type Phase = (typeof PHASES)[number]
export interface PhaseTime {
  phase: Phase
  /** since the first phase began */
  startMs: number
  ms: number
}

export type Outcome =
  | 'committed'
  | 'rolled-back'
  | 'called-off'
  | 'refused'
  | 'stopped'
  | 'restarted'
  | 'crashed'
  | 'started'
  | 'estopped'
  | 'released'
  /** a setting of the robot; `reason` says which, and what it is now */
  | 'changed'
  | 'waiting'

/** What happened, once: the body of a log entry. `seq` counts from 1, `prev` is the digest of the entry before. */
export interface Receipt {
  format: 'medulla-receipt/1'
  seq: number
  prev: string
  /** robot id (fingerprint of its identity key) */
  robot: string
  time: string
  slot: string
  outcome: Outcome
  /** Why, when it is not simply committed. */
  code?: RefusalCode
  /** The robot's own words. */
  reason?: string
  /** Of a crash: how long the program had run, and how many failures there were in a row, with this one (HANDOVER 9.10). */
  ranMs?: number
  failures?: number
  /** The program's, on one line and cut: a claim, not a finding (HANDOVER 3.9). */
  said?: string
  program?: string
  version?: string
  /** Release digests, `sha256:…`, or null when nothing ran. */
  from: string | null
  to: string | null
  /** Stands for so many of the same outcome, which came in the `periodMs` before `time` (HANDOVER 8.18). */
  count?: number
  periodMs?: number
  /** Fingerprints of who signed the release and who pushed it. */
  signer?: string
  pusher?: string
  /** What the body measured, from the moment at which it got the push (HANDOVER 1.4). */
  phases: PhaseTime[]
  wallMs: number
  /** Time during which no program could write, in ms; null when there was no switch. */
  gapMs: number | null
  /** From the old program's revocation to its confirmed stop, in ms: until then only its SDK kept it from writing. */
  fenceMs?: number
  stateBytes: number
  /** rolled back to a parked state: its age in ms */
  stateAgeMs?: number
  /** Changes of the slot's outputs while no program could write; null without a switch, or where they cannot be counted. */
  edges: number | null
  confined: boolean
  fence: number
}
/** `receipt` is the exact JSON text that was signed; `sig` is a base64 SSHSIG blob, namespace `receipt@medulla`. */
export interface SignedReceipt {
  receipt: string
  sig: string
}

export type PushEvent =
  /**
   * A phase begins, `startMs` after the body got the push. With `by` it is the endpoint's word on how long (`ms`) it
   * received and opened the bundle before: `startMs` counts from the first byte, and it is in no receipt (HANDOVER 1.4).
   */
  | { event: 'phase'; phase: Phase; startMs: number; by?: 'endpoint'; ms?: number }
  /** The program that runs says why it does not yield now; after `timing.yieldMs` the swap is called off. */
  | { event: 'held'; reason: string }
  | {
      event: 'result'
      outcome: Outcome
      code?: RefusalCode
      message: string
      hint?: string
      receipt?: Receipt
    }

/** How late the edges of all software PWM of the robot were: each of them is counted. */
export interface Lateness {
  edges: number
  p50Us: number
  p99Us: number
  maxUs: number
  /** Periods without a pulse. */
  missed: number
}

export interface SlotStatus {
  slot: string
  /** lifecycle state, HANDOVER 2 */
  state: string
  program?: string
  version?: string
  digest?: string
  pid?: number
  fence: number
  uptimeMs?: number
  rateHz?: number
  ticks?: number
  restarts: number
  /** `place` as in BoardEntry */
  handles: { name: string; kind: string; place: string; via: string; value?: number; lateness?: Lateness }[]
  log: { lines: number; dropped: number }
  lastGapMs?: number | null
  lastError?: string
  /** What the slot waits for, and what to do about it; it is not tried again before (HANDOVER 9.9). */
  waits?: string
  /** The next command to think of. */
  hint?: string
  previous?: string
}
export interface StatusReport {
  name: string
  id: string
  version: string
  board: string
  simulated: boolean
  /** `weak` (SIGSTOP) or `cgroup` */
  fence: 'weak' | 'cgroup'
  /** Memory and number of processes of a program: held by the kernel, or not at all. */
  limits: 'weak' | 'cgroup'
  confined: boolean
  /** Something keeps the robot's clock right (BUNDLE 10.13). */
  clockSynced: boolean
  /** What the process that reads the network is held by; absent: an older robot does not say. */
  endpoint?: EndpointReport
  /** Latched: nothing runs until an operator releases it. */
  estop: { since: string; reason: string } | null
  uptimeMs: number
  head: { seq: number; digest: string }
  slots: SlotStatus[]
}

export interface EndpointReport {
  /** uid of its own, without a capability; null: it runs as the user of the runtime */
  user: number | null
  /** `none`: it sees the file system as the runtime does */
  sandbox: 'none' | 'namespaces' | 'bwrap'
  /** System calls that it does not need are refused. */
  seccomp: boolean
}

export interface LogLine {
  time: string
  slot: string
  stream: 'stdout' | 'stderr' | 'log' | 'runtime'
  level?: string
  text: string
  fence: number
}
/** A child waits for the next program of the slot, which starts sooner in it; or none does (any more). */
export type SpareEvent = { event: 'spare'; ready: true } | { event: 'spare'; ready: false; reason: string }
export interface PinChange {
  name: string
  kind: string
  value: number
  ns: string
  fence: number
  slot?: string
}

/** Which counters the robot lets in for a program, and its clock in ms (BUNDLE 6.8). */
export interface CounterRange {
  least: number
  most: number
  now: number
  synchronised: boolean
}

/** A release that the robot keeps for a slot, or that was undone there. */
export interface ReleaseInfo {
  digest: string
  program: string
  version: string
  signer: string
  /** Name of the operator who pushed it, or fingerprint of one that the robot no longer knows. */
  pusher: string
  /** when it was installed */
  time: string
  /** it runs, or would be started */
  current: boolean
  /** Absent: it runs for the first time, or ran under a runtime that did not remember this. */
  run?: ReleaseRun
  /** It was undone: it is named here, and the robot has not kept it. */
  undone?: true
  /** For how long it runs now, in ms; absent unless it does. */
  runsMs?: number
}

/** How a release did in its slot (HANDOVER 7.11). */
export interface ReleaseRun {
  /** Its longest run, at least. */
  ranMs: number
  /** It ran for a minute since it last crashed sooner, or it never crashed and was stopped or replaced. */
  well: boolean
  /** at least */
  crashes: number
  /** How long it had run before it crashed last. */
  crashMs: number | null
}

/** In order. What a program prints counts as `info`, what it prints to stderr as `warn`. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** One parameter that a program declares; `type` says which of the other fields there are. */
export interface ParamInfo {
  name: string
  type: 'number' | 'boolean' | 'choice'
  value: number | boolean | string
  default: number | boolean | string
  /** An operator has set it, perhaps to its default: it stays until it is reset. */
  set: boolean
  min?: number
  max?: number
  step?: number
  unit?: string
  choices?: string[]
}
export interface ParamReport {
  slot: string
  program: string
  version: string
  params: ParamInfo[]
}
/** All of it or nothing (HANDOVER 11.2). */
export type ParamChange = { set: Record<string, number | boolean | string> } | { reset: string[] | 'all' }

/** The recipient of config values, as exact JSON text, signed by the robot: base64 SSHSIG blob, namespace `config@medulla` (BUNDLE 13.2). */
export interface SignedConfigKey {
  key: string
  sig: string
}
/** What anybody is told of a config value: everything but the value. */
export interface ConfigInfo {
  name: string
  /** when it was set; null: a program needs it, and it is not set */
  time: string | null
  /** name of the operator who set it, or fingerprint of one that the robot no longer knows */
  by: string | null
  /** programs that need it: what each slot runs, or would start */
  uses: { slot: string; program: string; version: string; runs: boolean }[]
}
export interface ConfigReport {
  key: SignedConfigKey
  values: ConfigInfo[]
}

/** Whoever the robot knows. */
export interface OperatorInfo {
  name: string
  role: Role
  fingerprint: string
}

/** What operators can order. Digests are of releases, `sha256:…`. */
export type Wish =
  | { order: 'start'; slot: string }
  /** `target` is of `program`; `from` is what the slot runs, or would start, as the operator saw it */
  | { order: 'rollback'; slot: string; program: string; target: string; from: string | null }
  /** a handle that no program holds */
  | { order: 'set'; handle: string; value: number }
  /**
   * of a simulated board only: an input is pressed to a level, as its program reads it, or a chip is poked; `value` is JSON,
   * null lets an input go
   */
  | { order: 'poke'; handle: string; what: string | null; value: string }
  | { order: 'params'; slot: string; change: ParamChange }
  /** `sealed`: the value, sealed to the robot's config key, in base64 (BUNDLE 13) */
  | { order: 'set-config'; name: string; sealed: string }
  | { order: 'unset-config'; name: string }
  /** ends the emergency stop */
  | { order: 'release' }
  /** goes with a push; `digest` null when who pushes cannot open the bundle */
  | { order: 'push'; slot: string; digest: string | null; force: boolean; retry: boolean }
  /** by an owner, as the three that follow; `operator` is a fingerprint, `key` the line of a .pub file */
  | {
      order: 'add-operator'
      card: SignedCertificate | null
      key: string | null
      name: string | null
      role: Role | null
    }
  | { order: 'change-role'; operator: string; role: Role }
  | { order: 'remove-operator'; operator: string }
  /** by an owner: any counter of `program` is new again */
  | { order: 'reset-floor'; program: string }
export type Order = Wish & {
  format: 'medulla-order/2'
  robot: string
  /** from `GET /v1/nonce`, for one order */
  nonce: string
}
export interface SignedOrder {
  /** exact JSON text of an {@link Order} */
  order: string
  /** base64 SSHSIG blob, namespace `order@medulla` */
  sig: string
}

export type Role = 'owner' | 'operator' | 'observer'
/** Higher includes lower. */
export const ROLE_RANK: Readonly<Record<Role, number>> = { observer: 1, operator: 2, owner: 3 }
