/**
 * The operators as the body knows them, and the way to change them. Changes and readings of the files take turns, so that
 * the newest list is the last that is read.
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

  /** The files may have been changed beside this process. */
  reload(): Promise<void> {
    return this.#inTurn(() => this.#read())
  }

  /** Answers whom the order was about, as she is now or was last. Throws Refusal, `role` when `by` is no owner (any more). */
  change(order: OperatorOrder, by: string): Promise<OperatorInfo> {
    return this.#inTurn(async () => {
      // who signed it may have been changed while it waited
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
