/**
 * The list of operators in the body, and its changes. Changes and reads of the files run one after another, so that the list
 * read last is the newest.
 */
import {
  type OperatorInfo,
  type Order,
  type Recovered,
  type RevokedKey,
  ROLE_RANK,
  type Role,
} from '../../../deploy/shared/api.ts'
import { type SignedCertificate, verifyCertificate } from '../../../deploy/shared/cert.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { fingerprint } from '../../../deploy/shared/keys.ts'
import { recover, revokeKey, rotateOperator, setRecovery } from '../../store/operatorkeys.ts'
import {
  addOperator,
  changeOperators,
  type HomeDir,
  loadOperators,
  type Operator,
  type OperatorOrder,
  type Operators,
} from '../../store/operators.ts'
import { plainEntry, type ReceiptEntry } from '../slot/entries.ts'
import { oneLine } from '../slot/said.ts'
import { Bucket } from './receiptlimit.ts'

type Of<K extends Order['order']> = Extract<Order, { order: K }>
/** Orders about the keys of operators (HANDOVER 19). */
export type KeyOrder = Of<'revoke-key'> | Of<'set-recovery'> | Of<'rotate-operator'> | Of<'recover'>

/** Rotations of their own keys by all operators: each has a receipt, and a revoked key that is remembered (HANDOVER 19.6). */
const ROTATIONS = { burst: 16, perMinute: 0.1 }

export class OperatorList {
  #now: Operators
  readonly #home: HomeDir
  readonly #record: (entry: ReceiptEntry) => Promise<unknown>
  #last: Promise<unknown> = Promise.resolve()
  readonly #rotations = new Bucket(ROTATIONS, () => performance.now())

  /** `record` writes the receipt of a change. */
  constructor(home: HomeDir, loaded: Operators, record: (entry: ReceiptEntry) => Promise<unknown>) {
    this.#home = home
    this.#now = loaded
    this.#record = record
  }

  get now(): Operators {
    return this.#now
  }

  /** Reads the files again: a person may have edited them. */
  reload(): Promise<void> {
    return this.#inTurn(() => this.#read())
  }

  /** Returns the operator whom the order changed or removed. Throws Refusal; `role` when `by` is not an owner any more. */
  change(order: OperatorOrder, by: string): Promise<OperatorInfo> {
    return this.#inTurn(async () => {
      // The signer's role may have changed while the order waited for its turn.
      if (this.#now.byFingerprint(by)?.role !== 'owner') {
        throw new Refusal('role', "the order is not an owner's any more", 'ask an owner of the robot')
      }
      const { name, role, fingerprint } = await changeOperators(this.#home, order)
      await this.#read()
      const now = order.order === 'remove-operator' ? 'removed' : role
      await this.#tell(`operator ${name} (${fingerprint}): ${now}`, by)
      return { name, role, fingerprint }
    })
  }

  /** `by` signed the order: an operator, or for `recover` the recovery key. Throws Refusal. */
  changeKeys(order: KeyOrder, by: Operator): Promise<OperatorInfo | RevokedKey | Recovered | object> {
    return this.#inTurn(async () => {
      const now = this.#now.byFingerprint(by.fingerprint)
      if (order.order !== 'recover' && now?.role !== by.role) {
        throw new Refusal('role', 'the role of the signer has changed meanwhile', 'medulla operators')
      }
      switch (order.order) {
        case 'revoke-key': {
          const revoked = await revokeKey(this.#home, order.key, order.list)
          await this.#read()
          await this.#tell(`key ${order.key} of ${revoked.name ?? 'nobody in the list'}: revoked`, by.fingerprint)
          return revoked
        }
        case 'set-recovery': {
          await setRecovery(this.#home, order.key, order.list)
          await this.#read()
          await this.#tell(`recovery key: now ${fingerprint(order.key)}`, by.fingerprint)
          return {}
        }
        case 'rotate-operator': {
          if (this.#rotations.tokens < 1) {
            throw new Refusal('in-progress', 'too many keys of operators were replaced', 'try again in 10 minutes')
          }
          this.#rotations.take()
          const { name, role, fingerprint } = await rotateOperator(this.#home, by.fingerprint, order.card, order.list)
          await this.#read()
          await this.#tell(`operator ${name}: new key ${fingerprint}, the old one is revoked`, by.fingerprint)
          return { name, role, fingerprint }
        }
        case 'recover': {
          const { owner, revoked } = await recover(this.#home, by.publicKey, order)
          await this.#read()
          const who = `${owner.name} (${owner.fingerprint}) is owner`
          const gone = revoked.map((each) => each.name ?? each.fingerprint).join(', ') || 'none'
          const next = fingerprint(order.next)
          await this.#tell(`recovery key used: ${who}; revoked: ${gone}; next recovery key: ${next}`, by.fingerprint)
          const { name, role } = owner
          return { owner: { name, role, fingerprint: owner.fingerprint }, revoked, operators: this.#now.report() }
        }
      }
    })
  }

  /** The number of the change is part of the receipt (HANDOVER 19.1). */
  async #tell(what: string, by: string): Promise<void> {
    const reason = oneLine(`${what}; change ${this.#now.state.counter} of the list`, 500)
    await this.#record(plainEntry('all', 'changed', 0, { reason, pusher: by }))
  }

  /**
   * Lets in whoever has proven to know the pairing code (CHANNEL 9.8). `role` null: the first operator is owner, later ones are
   * operators; nobody loses a role by pairing again.
   */
  letIn(card: SignedCertificate, role: Role | null): Promise<OperatorInfo & { first: boolean }> {
    return this.#inTurn(async () => {
      await this.#read()
      const { id, name: wanted } = verifyCertificate(card)
      const before = this.#now.byFingerprint(id)
      const first = !this.hasOwner
      const given = first ? 'owner' : (role ?? 'operator')
      const rises = before === null || ROLE_RANK[given] > ROLE_RANK[before.role]
      const name = before === null ? freeName(wanted, this.#now.all()) : undefined
      const added = await addOperator(this.#home, card, rises ? given : undefined, name)
      await this.#read()
      const reason = `operator ${added.name} (${added.fingerprint}): ${added.role}, by a pairing code`
      await this.#record(plainEntry('all', 'changed', 0, { reason, pusher: added.fingerprint }))
      return { name: added.name, role: added.role, fingerprint: added.fingerprint, first }
    })
  }

  get hasOwner(): boolean {
    return this.#now.all().some(({ role }) => role === 'owner')
  }

  async #read(): Promise<void> {
    this.#now = await loadOperators(this.#home)
  }

  #inTurn<T>(step: () => Promise<T>): Promise<T> {
    const done = this.#last.then(step)
    this.#last = done.catch(() => {})
    return done
  }
}

/** Operators have different names: `ann` becomes `ann-2` beside another ann. */
function freeName(wanted: string, list: readonly Operator[]): string {
  const taken = new Set(list.map(({ name }) => name.toLowerCase()))
  for (let number = 1; ; number++) {
    const name = number === 1 ? wanted : `${wanted.slice(0, 60)}-${number}`
    if (!taken.has(name.toLowerCase())) return name
  }
}
