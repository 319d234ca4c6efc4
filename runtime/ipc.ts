/**
 * The closed message set between endpoint and body: NDJSON over one socket pair, at most 256 KiB a line (HANDOVER 8).
 * The body treats the endpoint as hostile: every line is parsed by these schemas and anything else ends the endpoint.
 */
import * as z from 'zod'
import { BUNDLE_PARTS, LOG_CURSOR, LOG_LEVELS } from '../deploy/shared/api.ts'
import { LIMITS } from '../deploy/shared/bundle/limits.ts'
import type { SignedCertificate } from '../deploy/shared/cert.ts'
import { NAME_PATTERN } from '../deploy/shared/names.ts'
import type { ServerConfine } from './sdk/confined.ts'
import type { EndpointKeys } from './store/home.ts'

export const IPC_MAX_LINE = 256 * 1024

/** One staging file for each push that may run at the same time. Each has at most LIMITS.bundle bytes. */
export const STAGED_FILES = 3
/** The endpoint's descriptor table (HANDOVER 8.15). 0 and 1 are /dev/null, 2 is a pipe that the body reads. */
export const ENDPOINT_FD = {
  body: 3,
  urgent: 4,
  listener: 5,
  firstStaged: 6,
  channels: 6 + STAGED_FILES,
  discovery: 7 + STAGED_FILES,
} as const

const id = z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER)
const slot = z.string().regex(NAME_PATTERN)
export const fingerprint = z.string().regex(/^SHA256:[A-Za-z0-9+/]{43}$/)

/** Names of handles in the board file. */
export const HANDLE_NAME = /^[A-Za-z][A-Za-z0-9_-]{0,39}$/
const handle = z.string().regex(HANDLE_NAME)
const paramName = z.string().regex(/^[A-Za-z][A-Za-z0-9_-]{0,39}$/)
const paramValue = z.union([z.number(), z.boolean(), z.string().max(64)])

/** Checks the shape only. Whether the program declares these parameters and values is checked by the body. */
export const ParamChange = z.union([
  z
    .strictObject({ set: z.record(paramName, paramValue) })
    .refine(({ set }) => Object.keys(set).length <= LIMITS.params),
  z.strictObject({ reset: z.union([z.literal('all'), z.array(paramName).max(LIMITS.params)]) }),
])

/** The endpoint passes an order on unread; the body checks the signature and parses the order (HANDOVER 8.10). */
const signedOrder = z.strictObject({ order: z.string().max(LIMITS.order), sig: z.string().max(LIMITS.signature) })

const pushed = {
  /** index of the staging file that holds the opened bundle */
  staged: z
    .number()
    .int()
    .min(0)
    .max(STAGED_FILES - 1),
  length: z.number().int().positive().max(LIMITS.bundle),
  pusher: fingerprint,
  /** the operator's signed order for `--force` or a retry; null for a plain push */
  order: signedOrder.nullable(),
}

/** Endpoint to body. Each request has an id, and its answers carry the same id. `cancel` ends a stream that follows. */
export const EndpointMessage = z.discriminatedUnion('op', [
  z.strictObject({ op: z.literal('install'), id, slot, ...pushed }),
  z.strictObject({ op: z.literal('install-runtime'), id, ...pushed }),
  z.strictObject({ op: z.literal('nonce'), id }),
  z.strictObject({ op: z.literal('operators'), id }),
  z.strictObject({ op: z.literal('order'), id, signed: signedOrder }),
  z.strictObject({ op: z.literal('stop'), id, slot, pusher: fingerprint }),
  z.strictObject({ op: z.literal('estop'), id, pusher: fingerprint }),
  z.strictObject({ op: z.literal('status'), id }),
  z.strictObject({ op: z.literal('releases'), id, slot }),
  /** a piece of the bundle that the slot runs, from `offset` on */
  z.strictObject({
    op: z.literal('bundle'),
    id,
    slot,
    part: z.enum(BUNDLE_PARTS),
    offset: z.number().int().min(0).max(LIMITS.bundle),
  }),
  z.strictObject({ op: z.literal('counter'), id, kind: z.enum(['program', 'runtime']), program: slot }),
  /** `slot` null: the logs of all slots; `since` in ms since 1970, `ago` in ms before now; with `after`, `lines` does not count */
  z.strictObject({
    op: z.literal('logs'),
    id,
    slot: slot.nullable(),
    lines: z.number().int().min(0).max(10_000),
    since: z.number().nonnegative().max(Number.MAX_SAFE_INTEGER).nullable(),
    ago: z.number().nonnegative().max(Number.MAX_SAFE_INTEGER).nullable(),
    level: z.enum(LOG_LEVELS),
    after: z.string().regex(LOG_CURSOR).nullable(),
    follow: z.boolean(),
  }),
  z.strictObject({ op: z.literal('params'), id, slot }),
  z.strictObject({ op: z.literal('config-values'), id }),
  /** keeps a spare child for the slot until `cancel` (HANDOVER 12.1) */
  z.strictObject({ op: z.literal('spare'), id, slot }),
  /**
   * connects a message channel to the slot's program until `cancel`; one element comes after the descriptor on the socket for
   * channels, and `done` when that program was parked (CHANNEL 12.12)
   */
  z.strictObject({ op: z.literal('channel'), id, slot }),
  z.strictObject({ op: z.literal('receipts'), id, limit: z.number().int().min(1).max(10_000) }),
  z.strictObject({ op: z.literal('board'), id }),
  z.strictObject({ op: z.literal('pins'), id, names: z.array(handle).max(64).nullable(), follow: z.boolean() }),
  /** a push by a known operator was refused before it reached the body; the body writes it to the log */
  z.strictObject({
    op: z.literal('refused'),
    id,
    slot,
    pusher: fingerprint,
    code: z.string().max(40),
    message: z.string().max(500),
  }),
  /**
   * asks whether an operator certificate is valid, and for its role (the body owns the operators list); `cert` is the JSON
   * text of a SignedCertificate, `noise` base64; answered by `done` with value null or {fingerprint, role, name}
   */
  z.strictObject({ op: z.literal('who'), id, cert: z.string().max(8192), noise: z.string().max(64) }),
  /** asks for the public keys (`ssh-ed25519 AAAA…`) whose releases may be opened; answered by `done` with value string[] */
  z.strictObject({ op: z.literal('signers'), id }),
  /** the robot's card, for a laptop that wants to pair; answered by `done` with a SignedCertificate (CHANNEL 9) */
  z.strictObject({ op: z.literal('pair-card'), id }),
  /** the laptop's card, the hash of the handshake and the laptop's share of SPAKE2; answered with {attempt, share} */
  z.strictObject({
    op: z.literal('pair-share'),
    id,
    card: z.string().max(8192),
    hash: z.string().max(64),
    share: z.string().max(128),
  }),
  /** answered with {confirm, answer} */
  z.strictObject({
    op: z.literal('pair-confirm'),
    id,
    attempt: z.number().int().nonnegative().max(Number.MAX_SAFE_INTEGER),
    confirm: z.string().max(64),
  }),
  z.strictObject({ op: z.literal('cancel'), id }),
  z.strictObject({ op: z.literal('listening'), id }),
  /** somebody on the network asks for robots (HANDOVER 8.24); no answer */
  z.strictObject({ op: z.literal('asked'), id }),
  /** the answer to `ping` */
  z.strictObject({ op: z.literal('pong'), id }),
  z.strictObject({ op: z.literal('failed'), id, code: z.string().max(40), message: z.string().max(500) }),
])
export type EndpointMessage = z.infer<typeof EndpointMessage>

/**
 * Body to endpoint. `config` is the first message. An answer to a request is any number of `item` (stream elements: a
 * PushEvent, LogLine, LogMark, SpareEvent, SignedReceipt, PinChange, ParamReport or ConfigInfo), then one `done` (value for `status`, `board`,
 * `params`, `config-values`, `releases`, `bundle`, `counter`, `nonce`, `operators`, `who`, `signers` and the three of a pairing) or one `error`.
 */
export type BodyMessage =
  | {
      op: 'config'
      confine: ServerConfine
      keys: EndpointKeys
      /** The robot's certificate, which is shown to everybody (CHANNEL 2.6). */
      card: SignedCertificate
      name: string
      robot: string
      version: string
      /** The endpoint has the discovery socket. */
      discovery?: true
    }
  | { op: 'item'; id: number; item: unknown }
  | { op: 'done'; id: number; value?: unknown }
  | { op: 'error'; id: number; error: { code: string; message: string; hint?: string } }
  /** asks whether the endpoint's event loop turns (HANDOVER 16.5) */
  | { op: 'ping' }
  /** the list of operators changed: the endpoint asks `who` again for each open session */
  | { op: 'operators' }
  /** a pairing window was opened or closed (CHANNEL 9.1); at the endpoint's start, none is open */
  | { op: 'pairing'; open: boolean }
