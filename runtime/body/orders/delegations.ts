/**
 * Keys that may sign releases for a while, in the name of an operator. Invariant: a delegated key is valid for one slot, for the
 * pushes of the operator who delegated it, and until its time is over; it ends with this process, and with the rights of the
 * operator (HANDOVER 20; test/runtime/body/orders/delegations.test.ts).
 */
import { ROLE_RANK } from '../../../deploy/shared/api.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { fingerprint } from '../../../deploy/shared/keys.ts'
import type { Operator, Operators } from '../../store/operators.ts'

/** The longest time of a delegation. */
export const MAX_DELEGATION_MS = 8 * 3_600_000
/** Delegations that one operator may have at once; one more ends her oldest. */
const MAX_OWN = 8

interface Delegation {
  readonly slot: string
  /** Fingerprint of the operator who signed the delegation. */
  readonly by: string
  /** By `now()`. */
  readonly until: number
}

export class Delegations {
  readonly #operators: () => Operators
  /** A clock in ms that nobody can set. */
  readonly #now: () => number
  /** By the line of the public key; the oldest first. */
  readonly #keys = new Map<string, Delegation>()

  constructor(operators: () => Operators, now: () => number = () => performance.now()) {
    this.#operators = operators
    this.#now = now
  }

  /** `key` may sign releases for `slot`, as `by`. Throws Refusal `usage` for the key of an operator, or of another's delegation, and `revoked-key`. */
  add(key: string, slot: string, by: Operator, ms: number): void {
    const other = this.#present(key)
    if (this.#isBarred(key)) throw new Refusal('revoked-key', 'the key to delegate was revoked on this robot')
    if (this.#operators().byFingerprint(fingerprint(key)) !== null || (other !== null && other.by !== by.fingerprint)) {
      throw new Refusal('usage', 'a delegation needs a key of its own', 'make one for each delegation')
    }
    this.#keys.delete(key)
    const own = [...this.#keys].filter(([, each]) => each.by === by.fingerprint)
    for (const [oldest] of own.slice(0, Math.max(0, own.length - MAX_OWN + 1))) this.#keys.delete(oldest)
    this.#keys.set(key, { slot, by: by.fingerprint, until: this.#now() + Math.min(ms, MAX_DELEGATION_MS) })
  }

  /** The keys that may sign now; without `slot` and `pusher`, for any slot and any push. */
  signers(slot?: string, pusher?: string): string[] {
    return [...this.#keys.keys()].filter((key) => {
      const found = this.#present(key)
      if (found === null) return false
      return (slot === undefined || found.slot === slot) && (pusher === undefined || found.by === pusher)
    })
  }

  /** A revoked key gets no rights, whoever lends them (HANDOVER 19.2). */
  #isBarred(key: string): boolean {
    return this.#operators().isRevoked(fingerprint(key))
  }

  /** Null, and forgotten, when its time is over, the key was revoked, or the operator may not push any more. */
  #present(key: string): Delegation | null {
    const found = this.#keys.get(key)
    if (found === undefined) return null
    const by = this.#operators().byFingerprint(found.by)
    if (by !== null && !this.#isBarred(key) && ROLE_RANK[by.role] >= ROLE_RANK.operator && this.#now() < found.until)
      return found
    this.#keys.delete(key)
    return null
  }
}
