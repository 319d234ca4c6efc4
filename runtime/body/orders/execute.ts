/** Carries out the orders of operators, and the stops, which need none. */
import type { Order, ParamReport, PushEvent, SignedOrder } from '../../../deploy/shared/api.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import type { Operator } from '../../store/operators.ts'
import type { Body } from '../body.ts'
import { plainEntry } from '../slot/entries.ts'
import type { RuntimeUpdates } from '../update/updates.ts'
import type { Installer } from './installer.ts'
import { type OrderDesk, WrongRecovery } from './orders.ts'

/** From the answer to a rotation of keys to the end of the endpoint that has the old ones. */
const FAREWELL_MS = 250

export interface OrderEvents {
  /** Sessions of people who are no longer operators have to end. */
  operatorsChanged(): void
  /** The endpoint has old keys. */
  keysChanged(): void
}

export class OrderExecutor {
  readonly #body: Body
  readonly #installer: Installer
  readonly #updates: RuntimeUpdates
  readonly #events: OrderEvents

  constructor(body: Body, installer: Installer, updates: RuntimeUpdates, events: OrderEvents) {
    this.#body = body
    this.#installer = installer
    this.#updates = updates
    this.#events = events
  }

  /** Checks signature, signer and freshness first. Throws Refusal. */
  async carryOut(signed: SignedOrder, answer: (value: unknown) => void): Promise<void> {
    const { order, by } = await this.#checked(signed)
    await this.#execute(order, by, answer)
  }

  /** The parameters of the program in a slot. */
  async params(name: string): Promise<ParamReport> {
    const slot = this.#body.known(name)
    const runs = await slot.params.program()
    const { program, version } = runs
    return { slot: name, program, version, params: slot.params.report(runs) }
  }

  /** Needs no signature: anyone whom the robot knows may stop (HANDOVER 8.11). */
  async stop(name: string, pusher: string): Promise<PushEvent> {
    const slot = this.#body.known(name)
    this.#body.orders.stopped(name)
    const problem = await slot.stop('stop', pusher)
    await this.#body.letGo(slot)
    const done = `slot ${name} is stopped, its outputs are at their safe levels`
    return resultOf('stopped', problem === null ? done : `${done}; but ${problem}`)
  }

  async #checked(signed: SignedOrder): Promise<ReturnType<OrderDesk['check']>> {
    try {
      return this.#body.orders.check(signed)
    } catch (error) {
      // Few, because the desk looks at few of them (HANDOVER 19.5).
      if (error instanceof WrongRecovery) {
        const { code, message: reason } = error
        await this.#body.ledger.record(plainEntry('all', 'refused', 0, { code, reason }))
      }
      throw error
    }
  }

  async #execute(order: Order, by: Operator, answer: (value: unknown) => void): Promise<void> {
    switch (order.order) {
      case 'start': {
        const slot = this.#body.committed(order.slot)
        await this.#updates.during(async () => {
          await this.#body.config.admit(slot.name)
          await slot.start(by.fingerprint)
        })
        return answer(resultOf('started', `slot ${order.slot} is started; medulla status shows how it goes`))
      }
      case 'rollback':
        return this.#installer.rollback(order, by.fingerprint, answer)
      case 'set':
        return answer(this.#body.set(order.handle, order.value, by.name))
      case 'poke':
        return answer(this.#body.pins.poke(order.handle, order.what, order.value))
      case 'params': {
        const { params } = this.#body.known(order.slot)
        const runs = await params.program()
        await params.change(order.change, runs, by.name)
        return answer(await this.params(order.slot))
      }
      case 'set-config':
        return answer(await this.#body.config.set(order.name, order.sealed, by))
      case 'unset-config':
        return answer(await this.#body.config.unset(order.name, by))
      case 'release':
        return answer(await this.#body.emergency.release(by.fingerprint))
      case 'add-operator':
      case 'change-role':
      case 'remove-operator':
        answer(await this.#body.operators.change(order, by.fingerprint))
        // After the answer: the change may end the session that gave the order.
        setImmediate(() => this.#events.operatorsChanged())
        return
      case 'revoke-key':
      case 'set-recovery':
      case 'rotate-operator':
      case 'recover':
        answer(await this.#body.operators.changeKeys(order, by))
        setImmediate(() => this.#events.operatorsChanged())
        return
      case 'add-build':
        await this.#installer.addBuild({ statement: order.statement, sig: order.sig }, by)
        return answer({})
      case 'delegate':
        await this.#installer.delegate(order, by)
        // The endpoint asks for the signers again.
        this.#events.operatorsChanged()
        return answer({})
      case 'rotate-keys':
        answer(await this.#body.keys.rotate(by))
        // The next endpoint has the new keys; the programs do not notice (HANDOVER 8.3).
        setTimeout(() => this.#events.keysChanged(), FAREWELL_MS).unref()
        return
      case 'reset-floor':
        return answer(await this.#body.releases.resetFloor(order.program, by.fingerprint))
      case 'rollback-runtime':
        return this.#updates.rollback(order, by, answer)
      case 'push':
      case 'push-runtime':
        throw new Refusal('usage', 'an order to push goes with its bundle')
    }
  }
}

const resultOf = (outcome: 'started' | 'stopped', message: string): PushEvent => ({
  event: 'result',
  outcome,
  message,
})
