/** Operators, their roles, and the orders that they sign (HANDOVER 8.10). */
import type { SignedCertificate } from './cert.ts'

/** An operator of the robot. */
export interface OperatorInfo {
  name: string
  role: Role
  fingerprint: string
}

/** A nonce for one order, and the counter of the list of operators; `list` is absent from older robots (HANDOVER 19.1). */
export interface OrderNonce {
  nonce: string
  list?: number
}
/** A key that the robot never lets in again. `name` is that of the operator who had it; null: the robot did not know it. */
export interface RevokedKey {
  fingerprint: string
  name: string | null
}
/** What a recovery has done, and who is an operator now. */
export interface Recovered {
  owner: OperatorInfo
  revoked: RevokedKey[]
  operators: OperatorInfo[]
}

/** A change takes effect as a whole, or not at all (HANDOVER 11.2). */
export type ParamChange = { set: Record<string, number | boolean | string> } | { reset: string[] | 'all' }

/** The contents of an order, without robot and nonce. Digests are those of releases, `sha256:…`. */
export type Wish =
  | { order: 'start'; slot: string }
  /**
   * `target` is a release of `program`; `from` is the release that the slot ran, or would have started, when the operator
   * gave the order
   */
  | { order: 'rollback'; slot: string; program: string; target: string; from: string | null }
  /** a handle that no program holds */
  | { order: 'set'; handle: string; value: number }
  /**
   * on a simulated board only: presses an input to a level, as its program reads it, or changes what a chip senses; `value` is
   * JSON, null releases an input
   */
  | { order: 'poke'; handle: string; what: string | null; value: string }
  | { order: 'params'; slot: string; change: ParamChange }
  /** `sealed`: the value, sealed to the robot's config key, in base64 (BUNDLE 13) */
  | { order: 'set-config'; name: string; sealed: string }
  | { order: 'unset-config'; name: string }
  /** ends the emergency stop */
  | { order: 'release' }
  /** comes with a push; `digest` is null when the laptop cannot open the bundle */
  | { order: 'push'; slot: string; digest: string | null; force: boolean; retry: boolean }
  /** `key` may sign releases for the slot that this operator pushes, for some hours (HANDOVER 20) */
  | { order: 'delegate'; slot: string; key: string; hours: number }
  /** the statement of a builder, and its signature (BUNDLE 17) */
  | { order: 'add-build'; statement: string; sig: string }
  /** only from owners, as all that follow; `operator` is a fingerprint, `key` the line of a .pub file */
  | {
      order: 'add-operator'
      card: SignedCertificate | null
      key: string | null
      name: string | null
      role: Role | null
      /** the counter of the list that is changed, here and below (HANDOVER 19.1) */
      list?: number | undefined
    }
  | { order: 'change-role'; operator: string; role: Role; list?: number | undefined }
  | { order: 'remove-operator'; operator: string; list?: number | undefined }
  /** `key` is a fingerprint, which the robot need not know; it is never let in again (HANDOVER 19.2) */
  | { order: 'revoke-key'; key: string; list?: number | undefined }
  /** `key` is the public half of a recovery key */
  | { order: 'set-recovery'; key: string; list?: number | undefined }
  /** the robot makes new keys for channel and bundles (HANDOVER 19.7) */
  | { order: 'rotate-keys' }
  /** from any operator, for herself: `card` is of the key that replaces the one that signs this order */
  | { order: 'rotate-operator'; card: SignedCertificate; list?: number | undefined }
  /** signed by the recovery key; `revoke` holds fingerprints and names, `next` is the public half of the next recovery key */
  | {
      order: 'recover'
      card: SignedCertificate
      name: string | null
      revoke: readonly string[]
      next: string
      list?: number | undefined
    }
  /** the robot takes any counter of `program` again */
  | { order: 'reset-floor'; program: string }
  /** comes with a runtime, as `push` with a program; `restart`: the programs may be ended and started again */
  | { order: 'push-runtime'; digest: string | null; retry: boolean; restart: boolean }
  /** `from` runs, and `to` is the one before it; null: the base install */
  | { order: 'rollback-runtime'; from: string | null; to: string | null; restart: boolean }
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
/** The holder of the recovery key may ask for a nonce and give one order, and nothing else (HANDOVER 19.4). */
export type PeerRole = Role | 'recovery'
/** A role may do everything that a role of lower rank may. */
export const ROLE_RANK: Readonly<Record<Role, number>> = { observer: 1, operator: 2, owner: 3 }
