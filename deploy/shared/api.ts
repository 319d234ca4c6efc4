/**
 * The HTTP interface between laptop and robot: its routes, and the types that both sides use. Every route needs an established
 * session (CHANNEL.md); without one, a robot answers only `GET /` ({@link Greeting}).
 *
 * | route | role | body | answer |
 * |---|---|---|---|
 * | GET /v1/status | observer | | StatusReport |
 * | GET /v1/board | observer | | BoardReport (board.ts) |
 * | PUT /v1/slots/:slot/program | operator | bundle, Content-Length required; for force and retry the header Medulla-Order, base64url of a SignedOrder as JSON | NDJSON of PushEvent |
 * | PUT /v1/runtime | owner | bundle of kind runtime, as above | NDJSON of RuntimeEvent: after `replacing` the robot ends the session |
 * | GET /v1/runtime/counter | observer | | CounterRange of the runtime |
 * | GET /v1/operators | operator | | OperatorInfo[] |
 * | GET /v1/nonce | operator | | OrderNonce, for one order |
 * | POST /v1/orders | operator | SignedOrder | NDJSON: of PushEvent (start, rollback, release), of RuntimeEvent (rollback-runtime), one PinChange (set), one ParamReport (params), one ConfigInfo (set-config, unset-config), one OperatorInfo (add-operator, change-role, remove-operator, rotate-operator), one RevokedKey (revoke-key), `{}` (set-recovery, delegate, add-build), one SignedCertificate (rotate-keys), one CounterRange (reset-floor) |
 * | GET /v1/recovery/nonce | recovery | | OrderNonce, for one order |
 * | POST /v1/recovery | recovery | SignedOrder | NDJSON of one Recovered |
 * | POST /v1/slots/:slot/stop | observer | | NDJSON of PushEvent |
 * | POST /v1/estop | observer | | NDJSON of PushEvent |
 * | GET /v1/slots/:slot/releases | observer | | ReleaseInfo[]: the running release, then newest first, then those never committed |
 * | GET /v1/slots/:slot/bundle/:part?offset=N | operator | | BundlePiece: of the release that the slot runs, as it was installed |
 * | GET /v1/slots/:slot/logs?lines=N&follow=1&since=TIME&ago=MS&level=LEVEL&after=CURSOR | observer | | NDJSON of LogLine; with follow, one LogMark after the stored lines (CHANNEL 10) |
 * | GET /v1/logs | observer | | the same, of all slots |
 * | GET /v1/slots/:slot/params | observer | | ParamReport |
 * | GET /v1/slots/:slot/channels/:name | operator | Upgrade: medulla-channel | 101, then frames of a message channel (CHANNEL 12) |
 * | GET /v1/config | observer | | ConfigReport, without any value |
 * | GET /v1/slots/:slot/spare | operator | | NDJSON of SpareEvent; the slot keeps a spare child while the request is open |
 * | GET /v1/programs/:program/counter | observer | | CounterRange |
 * | GET /v1/receipts?limit=N | observer | | NDJSON of SignedReceipt, oldest first |
 * | GET /v1/pins?follow=1&names=A,B | observer | | NDJSON of PinChange (first the present value of each handle) |
 *
 * A request that is refused before streaming starts is answered with a 4xx and {@link ErrorBody}.
 */
import type { RefusalCode } from './errors.ts'

export type {
  OperatorInfo,
  Order,
  OrderNonce,
  ParamChange,
  PeerRole,
  Recovered,
  RevokedKey,
  Role,
  SignedOrder,
  Wish,
} from './orders.ts'
export { ROLE_RANK } from './orders.ts'

export const PROTOCOL = 'medulla/2'
/** The header of a push that carries an order. */
export const ORDER_HEADER = 'medulla-order'
export const DEFAULT_PORT = 7171
export const DEFAULT_SLOT = 'main'

/** Names of config values. */
export const CONFIG_NAME = /^[A-Z][A-Z0-9_]{0,63}$/

/**
 * Names of operators. Also principals for `ssh-keygen -Y verify -I`, so without characters that OpenSSH reads as a pattern
 * or a list.
 */
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

/** Phases of a swap, in order. They follow each other without a gap, so they add up to the wall time (HANDOVER 1). */
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
  /** a setting of the robot changed; `reason` names the setting and its new value */
  | 'changed'
  | 'waiting'

/** The text of one entry of the signed log. `seq` counts from 1, `prev` is the digest of the entry before. */
export interface Receipt {
  format: 'medulla-receipt/1'
  seq: number
  prev: string
  /** robot id (fingerprint of its identity key) */
  robot: string
  time: string
  slot: string
  outcome: Outcome
  /** Why the outcome is not a plain success. */
  code?: RefusalCode
  /** The same in words, written by the robot. */
  reason?: string
  /** For a crash: how long the program had run, and how many failures there were in a row, with this one (HANDOVER 9.10). */
  ranMs?: number
  failures?: number
  /** The program's own words, on one line and cut: a claim of the program, not an observation of the robot (HANDOVER 3.9). */
  said?: string
  program?: string
  version?: string
  /** Release digests, `sha256:…`, or null when nothing ran. */
  from: string | null
  to: string | null
  /** The entry stands for this many equal outcomes in the `periodMs` before `time` (HANDOVER 8.18). */
  count?: number
  periodMs?: number
  /** Fingerprints of the operators who signed the release and who pushed it. */
  signer?: string
  pusher?: string
  /** Measured by the body, from the moment when it got the push (HANDOVER 1.4). */
  phases: PhaseTime[]
  wallMs: number
  /** Time during which no program could write, in ms; null when there was no switch. */
  gapMs: number | null
  /**
   * Of a start from the disk: the time in which the stored files were read, hashed and unpacked in memory, in ms. Absent for the
   * files of a push, which were verified in its phase `verify`.
   */
  checkMs?: number
  /**
   * From the revocation of the old program's handles to its confirmed stop, in ms. In this time only its SDK keeps it from
   * writing.
   */
  fenceMs?: number
  stateBytes: number
  /** after a rollback to a parked state: the age of that state in ms */
  stateAgeMs?: number
  /** Changes of the slot's outputs while no program could write; null without a switch, or if they cannot be counted. */
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
   * A phase begins, `startMs` after the body got the push. With `by`, the endpoint reports that it received or opened the bundle
   * for `ms`: then `startMs` counts from the first byte, and no receipt has this phase (HANDOVER 1.4).
   */
  | { event: 'phase'; phase: Phase; startMs: number; by?: 'endpoint'; ms?: number }
  /** The running program says why it does not yield now; after `timing.yieldMs` the swap is called off. */
  | { event: 'held'; reason: string }
  | {
      event: 'result'
      outcome: Outcome
      code?: RefusalCode
      message: string
      hint?: string
      receipt?: Receipt
    }

/** A push or rollback of the runtime. */
export type RuntimeEvent =
  | Extract<PushEvent, { event: 'phase' }>
  /** It was refused. */
  | Extract<PushEvent, { event: 'result' }>
  /** The runtime is replaced: the session ends, and StatusReport.runtime says how it went. Digest null: the base install. */
  | { event: 'replacing'; from: string | null; to: string | null; version: string }

/** How late the edges of all software PWM of the robot were; every edge is counted. */
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
  /** Restarts of this release after crashes; those of a release before it are not counted. */
  restarts: number
  /** `place` as in BoardEntry */
  handles: { name: string; kind: string; place: string; via: string; value?: number; lateness?: Lateness }[]
  log: { lines: number; dropped: number }
  lastGapMs?: number | null
  lastError?: string
  /** What the slot waits for, and how to help; until then its program is not started again (HANDOVER 9.9). */
  waits?: string
  /** It has a program, which a stop ended and which only a start or a push starts again. Absent from older robots. */
  stopped?: true
  /** A stored release was changed on disk, and another one was started instead (HANDOVER 9.13); until the next commit. */
  alarm?: string
  /** As in the receipt of the last start of the running program. */
  checkMs?: number
  /** A suggestion for the next command. */
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
  /** Who limits memory and processes of a program: `cgroup`, or `weak`, per-process limits only */
  limits: 'weak' | 'cgroup'
  confined: boolean
  /** A time service keeps the robot's clock right (BUNDLE 10.13). */
  clockSynced: boolean
  /** How the process that reads the network is confined; absent from older robots. */
  endpoint?: EndpointReport
  /** Absent from older robots. */
  runtime?: RuntimeReport
  /** Latched: nothing runs until an operator releases it. */
  estop: { since: string; reason: string } | null
  /** Absent: no pairing window is open. */
  pairing?: PairingReport
  uptimeMs: number
  head: { seq: number; digest: string }
  slots: SlotStatus[]
  /** Records of the robot that were changed on disk, and were not used (HANDOVER 9.13). */
  alarms?: readonly string[]
}

/** An open pairing window (CHANNEL 9): whoever types its code becomes an operator. The code is shown on the robot only. */
export interface PairingReport {
  /** ISO time by the robot's clock. */
  until: string
  /** Wrong codes that it still takes. */
  tries: number
}

/** Why the robot starts no program, and what to do about it (HANDOVER 17.9). */
export interface MinimalMode {
  why: string
  hint: string
}

/** The runtime of a robot: what runs, and what it can go back to. Digest null: the base install. */
export interface RuntimeReport {
  version: string
  digest: string | null
  /** When it was chosen; null: the runtime of this robot was never replaced. */
  since: string | null
  /** It was healthy after its start. Until then it may still be undone. */
  confirmed: boolean
  /** Version of the base install. */
  base: string
  /** Null: there is none. */
  previous: { version: string; digest: string | null } | null
  /** Runtimes that were undone, newest first. */
  failed: { version: string; digest: string; reason: string; time: string }[]
  /** Absent: it starts programs. */
  minimal?: MinimalMode
}

export interface EndpointReport {
  /** its own uid, without capabilities; null: it runs as the user of the runtime */
  user: number | null
  /** `none`: it sees the file system as the runtime does */
  sandbox: 'none' | 'namespaces' | 'bwrap'
  /** a filter refuses the system calls that it does not need */
  seccomp: boolean
}

/** `LOG-NUMBER`: a log, and the number of a line in it. */
export const LOG_CURSOR = /^[0-9a-f]{12}-\d{1,15}$/

export interface LogLine {
  /** The place of the line in the robot's log, for `after` (CHANNEL 10.1). */
  cursor: string
  time: string
  slot: string
  stream: 'stdout' | 'stderr' | 'log' | 'runtime'
  level?: string
  text: string
  fence: number
}
/** In a followed log, once: every line up to this cursor was sent, if it was asked for (CHANNEL 10.3). */
export interface LogMark {
  mark: string
}
/**
 * Whether a spare child is ready for the next program of the slot, which then starts sooner; `reason` says why there is
 * none.
 */
export type SpareEvent = { event: 'spare'; ready: true } | { event: 'spare'; ready: false; reason: string }
export interface PinChange {
  name: string
  kind: string
  value: number
  ns: string
  fence: number
  slot?: string
}

/** The range of counters that the robot takes for a program, and the robot's clock in ms (BUNDLE 6.8). */
export interface CounterRange {
  least: number
  most: number
  now: number
  synchronised: boolean
}

/** A release that the robot keeps for a slot, or that was undone in the slot. */
export interface ReleaseInfo {
  digest: string
  program: string
  version: string
  signer: string
  /** Name of the operator who pushed it; the fingerprint if the robot no longer knows the operator. */
  pusher: string
  /** when it was installed */
  time: string
  /** the slot runs this release, or would start it */
  current: boolean
  /** Absent in its first run, and for runs under an older runtime. */
  run?: ReleaseRun
  /** The release was undone, and the robot has not kept it. */
  undone?: true
  /** How long it has been running, in ms; absent unless it runs now. */
  runsMs?: number
}

/** The parts of an installed bundle. */
export const BUNDLE_PARTS = ['release', 'release.sig', 'payload.tar.gz'] as const
export type BundlePart = (typeof BUNDLE_PARTS)[number]
/** Most bytes of one piece. */
export const BUNDLE_PIECE = 128 * 1024
/** A piece of one part, which the robot does not check: whoever reads the bundle verifies signature and hashes. */
export interface BundlePiece {
  /** of the release that the slot runs, or would start */
  digest: string
  /** of the whole part, in bytes */
  length: number
  /** base64 of at most BUNDLE_PIECE bytes, from the offset on */
  data: string
}

/** How a release ran in its slot (HANDOVER 7.11). */
export interface ReleaseRun {
  /** Lower bound of its longest run. */
  ranMs: number
  /** It has run for a minute since its last earlier crash, or it never crashed and was stopped or replaced. */
  well: boolean
  /** Lower bound of the number of crashes. */
  crashes: number
  /** How long it had run before its last crash. */
  crashMs: number | null
}

/** From the least to the worst. stdout of a program counts as `info`, stderr as `warn`. */
export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** One parameter that a program declares; the fields from `min` on depend on `type`. */
export interface ParamInfo {
  name: string
  type: 'number' | 'boolean' | 'choice'
  value: number | boolean | string
  default: number | boolean | string
  /** An operator has set the value, which then stays until a reset. */
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

/**
 * The recipient of config values, as exact JSON text, signed by the robot: base64 SSHSIG blob, namespace `config@medulla`
 * (BUNDLE 13.2).
 */
export interface SignedConfigKey {
  key: string
  sig: string
}
/** What the robot says about a config value: everything but the value. */
export interface ConfigInfo {
  name: string
  /** when it was set; null: a program needs the value, but it is not set */
  time: string | null
  /** name of the operator who set it; the fingerprint if the robot no longer knows the operator */
  by: string | null
  /** programs that need the value, of those that a slot runs or would start */
  uses: { slot: string; program: string; version: string; runs: boolean }[]
}
export interface ConfigReport {
  key: SignedConfigKey
  values: ConfigInfo[]
}
