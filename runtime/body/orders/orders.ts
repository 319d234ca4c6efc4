/**
 * Invariant: an order is carried out only if an operator signed it, for this robot, over a value that this body gave out
 * since the last stop of the slot, and at most once (HANDOVER 2.9, 8.10; test/runtime/body/orders/orders.test.ts). Who
 * forwarded the order does not matter.
 *
 * A nonce costs no memory until it is used: it holds the time at which it was made, authenticated with a key of this process.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import * as z from 'zod'
import {
  CONFIG_NAME,
  OPERATOR_NAME,
  type Order,
  type PeerRole,
  ROLE_RANK,
  type SignedOrder,
} from '../../../deploy/shared/api.ts'
import { LIMITS } from '../../../deploy/shared/bundle/limits.ts'
import { PUBLIC_KEY_PATTERN, verifyBase64 } from '../../../deploy/shared/bundle/sshsig.ts'
import { readJson } from '../../../deploy/shared/bundle/strict.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { NAME_PATTERN } from '../../../deploy/shared/names.ts'
import { RECOVERY_NAME } from '../../../deploy/shared/recoverykey.ts'
import { fingerprint, HANDLE_NAME, ParamChange } from '../../ipc.ts'
import type { Operator, Operators } from '../../store/operators.ts'
import { MAX_DELEGATION_MS } from './delegations.ts'
import { Bucket } from './receiptlimit.ts'

const NAMESPACE = 'order@medulla'
/** A nonce is valid for this long: the signer may have to touch a key or type a passphrase. */
const NONCE_MS = 5 * 60_000
/** Used nonces that are remembered: 200 orders a second for NONCE_MS. */
const MAX_USED = 65_536
/** Recoveries with a wrong key that are looked at (HANDOVER 19.5). */
const WRONG_RECOVERIES = { burst: 5, perMinute: 1 }
/** Keys that one recovery revokes. */
const MAX_REVOKED_AT_ONCE = 64
/** Slots whose last stop is remembered separately. */
const MAX_SLOTS = 64
/** Characters of JSON of a poke; the longest are the first bytes of a memory chip. */
const MAX_POKE = 1000
/** Bytes of the parts of a nonce; `stops` is the number of stops when it was made. */
const SIZE = { time: 8, stops: 8, random: 8, mac: 16 }
const BODY_SIZE = SIZE.time + SIZE.stops + SIZE.random

const slot = z.string().regex(NAME_PATTERN)
const role = z.enum(['owner', 'operator', 'observer'])
const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/)
const card = z.strictObject({ cert: z.string().max(LIMITS.certificate), sig: z.string().max(LIMITS.signature) })
const publicKey = z.string().regex(PUBLIC_KEY_PATTERN)
/** The counter of the list of operators (HANDOVER 19.1); laptops of earlier versions do not send it. */
const list = z.int().min(0).optional()
const signed = { format: z.literal('medulla-order/2'), robot: z.string(), nonce: z.string() }

const Known = z.discriminatedUnion('order', [
  z.strictObject({ ...signed, order: z.literal('start'), slot }),
  z.strictObject({
    ...signed,
    order: z.literal('rollback'),
    slot,
    program: z.string().regex(NAME_PATTERN),
    target: digest,
    from: digest.nullable(),
  }),
  z.strictObject({ ...signed, order: z.literal('set'), handle: z.string().regex(HANDLE_NAME), value: z.number() }),
  z.strictObject({
    ...signed,
    order: z.literal('poke'),
    handle: z.string().regex(HANDLE_NAME),
    what: z.string().max(40).nullable(),
    value: z.string().max(MAX_POKE),
  }),
  z.strictObject({ ...signed, order: z.literal('params'), slot, change: ParamChange }),
  z.strictObject({
    ...signed,
    order: z.literal('set-config'),
    name: z.string().regex(CONFIG_NAME),
    sealed: z.string().max(LIMITS.sealedConfig),
  }),
  z.strictObject({ ...signed, order: z.literal('unset-config'), name: z.string().regex(CONFIG_NAME) }),
  z.strictObject({ ...signed, order: z.literal('release') }),
  z.strictObject({
    ...signed,
    order: z.literal('push'),
    slot,
    digest: digest.nullable(),
    force: z.boolean(),
    retry: z.boolean(),
  }),
  z.strictObject({
    ...signed,
    order: z.literal('add-operator'),
    card: z.strictObject({ cert: z.string(), sig: z.string() }).nullable(),
    key: z.string().nullable(),
    name: z.string().nullable(),
    role: role.nullable(),
    list,
  }),
  z.strictObject({ ...signed, order: z.literal('change-role'), operator: fingerprint, role, list }),
  z.strictObject({ ...signed, order: z.literal('remove-operator'), operator: fingerprint, list }),
  z.strictObject({ ...signed, order: z.literal('revoke-key'), key: fingerprint, list }),
  z.strictObject({ ...signed, order: z.literal('set-recovery'), key: publicKey, list }),
  z.strictObject({ ...signed, order: z.literal('rotate-operator'), card, list }),
  z.strictObject({ ...signed, order: z.literal('rotate-keys') }),
  z.strictObject({
    ...signed,
    order: z.literal('add-build'),
    statement: z.string().max(LIMITS.buildStatement),
    sig: z.string().max(LIMITS.signature),
  }),
  z.strictObject({
    ...signed,
    order: z.literal('delegate'),
    slot,
    key: publicKey,
    hours: z
      .int()
      .min(1)
      .max(MAX_DELEGATION_MS / 3_600_000),
  }),
  z.strictObject({
    ...signed,
    order: z.literal('recover'),
    card,
    name: z.string().regex(OPERATOR_NAME).nullable(),
    revoke: z.array(z.union([fingerprint, z.string().regex(OPERATOR_NAME)])).max(MAX_REVOKED_AT_ONCE),
    next: publicKey,
    list,
  }),
  z.strictObject({ ...signed, order: z.literal('reset-floor'), program: z.string().regex(NAME_PATTERN) }),
  z.strictObject({
    ...signed,
    order: z.literal('push-runtime'),
    digest: digest.nullable(),
    retry: z.boolean(),
    restart: z.boolean(),
  }),
  z.strictObject({
    ...signed,
    order: z.literal('rollback-runtime'),
    from: digest.nullable(),
    to: digest.nullable(),
    restart: z.boolean(),
  }),
])

const NEEDS: Readonly<Record<Order['order'], PeerRole>> = {
  start: 'operator',
  rollback: 'operator',
  set: 'operator',
  poke: 'operator',
  params: 'operator',
  'set-config': 'operator',
  'unset-config': 'operator',
  release: 'operator',
  push: 'operator',
  delegate: 'operator',
  'add-build': 'operator',
  'add-operator': 'owner',
  'change-role': 'owner',
  'remove-operator': 'owner',
  'revoke-key': 'owner',
  'set-recovery': 'owner',
  'rotate-keys': 'owner',
  'rotate-operator': 'operator',
  recover: 'recovery',
  'reset-floor': 'owner',
  'push-runtime': 'owner',
  'rollback-runtime': 'owner',
}

/** A recovery that the robot's recovery key did not sign. Each has a receipt. */
export class WrongRecovery extends Refusal {
  constructor() {
    const message = 'the recovery is not signed by the recovery key of this robot'
    super('unknown-operator', message, 'type the newest recovery key; each one works once')
  }
}

export class OrderDesk {
  readonly #robot: string
  readonly #operators: () => Operators
  readonly #key = randomBytes(32)
  /** Used nonces with the performance.now() at which they expire; the oldest first. */
  readonly #used = new Map<string, number>()
  /** The number of stops so far. */
  #stops = 0
  /** The number of the last stop of the whole robot. */
  #stoppedAll = 0
  /** The number of the last stop of each slot. */
  readonly #stopped = new Map<string, number>()
  readonly #wrong = new Bucket(WRONG_RECOVERIES, () => performance.now())

  constructor(robot: string, operators: () => Operators) {
    this.#robot = robot
    this.#operators = operators
  }

  /** A fresh nonce for one order, in base64url. */
  nonce(): string {
    const body = Buffer.alloc(BODY_SIZE)
    body.writeDoubleBE(performance.now())
    body.writeDoubleBE(this.#stops, SIZE.time)
    randomBytes(SIZE.random).copy(body, SIZE.time + SIZE.stops)
    return Buffer.concat([body, this.#mac(body)]).toString('base64url')
  }

  /** Nonces given out before are not valid for orders on this slot any more; null: for any order that moves the robot. */
  stopped(slot: string | null): void {
    this.#stops++
    if (slot === null || this.#stopped.size >= MAX_SLOTS) this.#stoppedAll = this.#stops
    else this.#stopped.set(slot, this.#stops)
  }

  /**
   * Throws Refusal. Uses up the nonce: the same order is refused a second time, even when carrying it out fails. `by` of a
   * recovery is the recovery key, which is nobody in the list.
   */
  check({ order: text, sig }: SignedOrder): { order: Order; by: Operator } {
    const bytes = Buffer.from(text)
    const { publicKey, fingerprint: id } = verifyBase64(sig, NAMESPACE, bytes)
    const operators = this.#operators()
    const isRecovery = operators.state.recovery?.key === publicKey
    const by = isRecovery ? recoveryKey(publicKey, id) : operators.byFingerprint(id)
    if (by === null || by.publicKey !== publicKey || !by.namespaces.includes(NAMESPACE)) {
      this.#countGuess(bytes)
      throw new Refusal('unknown-operator', 'the order is not signed by an operator of this robot')
    }
    const order = parse(bytes)
    const needs = NEEDS[order.order]
    if (needs === 'recovery' || isRecovery) {
      if (needs !== 'recovery') {
        throw new Refusal('role', 'a recovery key signs recoveries only', 'medulla recover makes you an owner')
      }
      if (!isRecovery) this.#countGuess(bytes)
    } else if (ROLE_RANK[by.role] < ROLE_RANK[needs]) {
      const message = `expected role ${needs}, ${by.name} is ${by.role}`
      throw new Refusal('role', message, 'ask an owner of the robot')
    }
    if (order.robot !== this.#robot) {
      throw new Refusal('wrong-robot', `the order is for ${order.robot}, this is ${this.#robot}`)
    }
    this.#use(order)
    return { order, by }
  }

  /** Throws Refusal for a recovery that somebody else signed. A recovery by the right key is never held up by these. */
  #countGuess(bytes: Uint8Array): void {
    if (!isRecover(bytes)) return
    if (this.#wrong.tokens < 1) {
      throw new Refusal('in-progress', 'too many recoveries with a wrong key', 'try again in a minute')
    }
    this.#wrong.take()
    throw new WrongRecovery()
  }

  #use(order: Order): void {
    const bytes = Buffer.from(order.nonce, 'base64url')
    const body = bytes.subarray(0, BODY_SIZE)
    const ours = bytes.length === BODY_SIZE + SIZE.mac && timingSafeEqual(bytes.subarray(BODY_SIZE), this.#mac(body))
    if (!ours || bytes.toString('base64url') !== order.nonce)
      throw stale('its nonce is not from this robot, or from before its last start')
    const until = body.readDoubleBE() + NONCE_MS
    if (until <= performance.now()) throw stale('it is too old')
    if (this.#used.has(order.nonce)) throw stale('it was carried out before')
    const stops = body.readDoubleBE(SIZE.time)
    const since = 'slot' in order ? (this.#stopped.get(order.slot) ?? 0) : 0
    if (MOVES.has(order.order) && stops < Math.max(this.#stoppedAll, since))
      throw stale('a stop came after the order was prepared')
    for (const [nonce, end] of this.#used) {
      if (end > performance.now()) break
      this.#used.delete(nonce)
    }
    if (this.#used.size >= MAX_USED) throw new Refusal('in-progress', 'too many orders', 'try again in some minutes')
    this.#used.set(order.nonce, until)
  }

  #mac(body: Uint8Array): Buffer {
    return createHmac('sha256', this.#key).update(body).digest().subarray(0, SIZE.mac)
  }
}

/** Also of a text that is no order at all. */
function isRecover(bytes: Uint8Array): boolean {
  try {
    return parse(bytes).order === 'recover'
  } catch {
    return false
  }
}

const recoveryKey = (publicKey: string, fingerprint: string): Operator => {
  return { publicKey, fingerprint, role: 'observer', name: RECOVERY_NAME, namespaces: [NAMESPACE] }
}

/** Orders that a stop makes stale. */
const MOVES: ReadonlySet<Order['order']> = new Set(['start', 'rollback', 'set', 'release', 'push'])

const stale = (why: string) => new Refusal('stale-order', `the order does not count: ${why}`, 'give it again')

/** Canonical JSON, so that every reader of the signed bytes sees the same order (BUNDLE 1.2). */
function parse(bytes: Uint8Array): Order {
  readJson(bytes, 'order', 'medulla-order/2', LIMITS.order, 'usage')
  const parsed = Known.safeParse(JSON.parse(Buffer.from(bytes).toString()))
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new Refusal('usage', `order: ${issue?.path.join('.') || 'order'}: ${issue?.message ?? 'not understood'}`)
}
