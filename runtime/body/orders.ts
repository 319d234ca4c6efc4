/**
 * Invariant: an order is carried out only if an operator signed it, for this robot, over a value that this body gave out,
 * and at most once (HANDOVER 8.10; test/runtime/orders.test.ts). Who forwarded it counts for nothing.
 */
import { randomBytes } from 'node:crypto'
import * as z from 'zod'
import { NAME_PATTERN, type Order, ROLE_RANK, type Role, type SignedOrder } from '../../deploy/api.ts'
import { LIMITS } from '../../deploy/bundle/limits.ts'
import { verifyBase64 } from '../../deploy/bundle/sshsig.ts'
import { readJson } from '../../deploy/bundle/strict.ts'
import { Refusal } from '../../deploy/errors.ts'
import { fingerprint, HANDLE_NAME, ParamChange } from '../ipc.ts'
import type { Operator, Operators } from '../store/operators.ts'

const NAMESPACE = 'order@medulla'
/** Somebody may have to touch a key or type a passphrase before the order is signed. */
const NONCE_MS = 5 * 60_000
/** The oldest one goes when there are more. */
const MAX_NONCES = 256

const slot = z.string().regex(NAME_PATTERN)
const role = z.enum(['owner', 'operator', 'observer'])
const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/)
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
  z.strictObject({ ...signed, order: z.literal('params'), slot, change: ParamChange }),
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
    role,
  }),
  z.strictObject({ ...signed, order: z.literal('change-role'), operator: fingerprint, role }),
  z.strictObject({ ...signed, order: z.literal('remove-operator'), operator: fingerprint }),
  z.strictObject({ ...signed, order: z.literal('reset-floor'), program: z.string().regex(NAME_PATTERN) }),
])

const NEEDS: Readonly<Record<Order['order'], Role>> = {
  start: 'operator',
  rollback: 'operator',
  set: 'operator',
  params: 'operator',
  release: 'operator',
  push: 'operator',
  'add-operator': 'owner',
  'change-role': 'owner',
  'remove-operator': 'owner',
  'reset-floor': 'owner',
}

export class OrderDesk {
  readonly #robot: string
  readonly #operators: () => Operators
  /** Each with the performance.now() at which it is no longer good; the oldest first. */
  readonly #nonces = new Map<string, number>()

  constructor(robot: string, operators: () => Operators) {
    this.#robot = robot
    this.#operators = operators
  }

  /** A fresh value for one order: 16 random bytes in base64url. */
  nonce(): string {
    for (const [nonce, until] of this.#nonces) {
      if (this.#nonces.size < MAX_NONCES && until > performance.now()) break
      this.#nonces.delete(nonce)
    }
    const nonce = randomBytes(16).toString('base64url')
    this.#nonces.set(nonce, performance.now() + NONCE_MS)
    return nonce
  }

  /** Throws Refusal. What is good now is not good a second time, whatever becomes of it. */
  check({ order: text, sig }: SignedOrder): { order: Order; by: Operator } {
    const bytes = Buffer.from(text)
    const { publicKey, fingerprint: id } = verifyBase64(sig, NAMESPACE, bytes)
    const by = this.#operators().byFingerprint(id)
    if (by === null || by.publicKey !== publicKey || !by.namespaces.includes(NAMESPACE)) {
      throw new Refusal('unknown-operator', 'the order is not signed by an operator of this robot')
    }
    const order = parse(bytes)
    if (ROLE_RANK[by.role] < ROLE_RANK[NEEDS[order.order]]) {
      const message = `expected role ${NEEDS[order.order]}, ${by.name} is ${by.role}`
      throw new Refusal('role', message, 'ask an owner of the robot')
    }
    if (order.robot !== this.#robot) {
      throw new Refusal('wrong-robot', `the order is for ${order.robot}, this is ${this.#robot}`)
    }
    const until = this.#nonces.get(order.nonce) ?? 0
    this.#nonces.delete(order.nonce)
    if (until <= performance.now()) {
      throw new Refusal('stale-order', 'the order was carried out before, or is too old', 'give it again')
    }
    return { order, by }
  }
}

/** BUNDLE 1.2: canonical JSON, so that it reads the same for whoever checks the signature. */
function parse(bytes: Uint8Array): Order {
  readJson(bytes, 'order', 'medulla-order/2', LIMITS.order, 'usage')
  const parsed = Known.safeParse(JSON.parse(Buffer.from(bytes).toString()))
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  throw new Refusal('usage', `order: ${issue?.path.join('.') || 'order'}: ${issue?.message ?? 'not understood'}`)
}
