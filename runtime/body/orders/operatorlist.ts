/**
 * The list of operators in the body, and its changes. Changes and reads of the files run one after another, so that the list
 * read last is the newest.
 */
import type { OperatorInfo } from '../../../deploy/shared/api.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import {
  changeOperators,
  type HomeDir,
  loadOperators,
  type OperatorOrder,
  type Operators,
} from '../../store/operators.ts'
import { type Entry, plainEntry } from '../slot/entries.ts'

export class OperatorList {
  #now: Operators
  readonly #home: HomeDir
  readonly #record: (entry: Entry) => Promise<unknown>
  #last: Promise<unknown> = Promise.resolve()

  /** `record` writes the receipt of a change. */
  constructor(home: HomeDir, loaded: Operators, record: (entry: Entry) => Promise<unknown>) {
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
      const reason = `operator ${name} (${fingerprint}): ${now}`
      await this.#record(plainEntry('all', 'changed', 0, { reason, pusher: by }))
      return { name, role, fingerprint }
    })
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
