/**
 * Replaces the runtime by another one, on an owner's push or order. Invariant: a runtime is on disk only after the body's own
 * copy of its bundle has passed signature, hash, policy and unpacking, and only an owner's bundle does (BUNDLE 14, HANDOVER 17.2;
 * test/e2e/runtimes.test.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Order, RuntimeEvent, RuntimeReport } from '../../../deploy/shared/api.ts'
import { decideRuntime, type RuntimeFacts } from '../../../deploy/shared/bundle/policy.ts'
import type { Release } from '../../../deploy/shared/bundle/release.ts'
import { RUNTIME_PROGRAM, unlikeBase } from '../../../deploy/shared/bundle/runtimepackage.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import type { EndpointMessage } from '../../ipc.ts'
import { clockNs } from '../../sdk/ticker.ts'
import { type BaseInstall, baseInstall, ownDigest, unsupported } from '../../start.ts'
import type { Operator } from '../../store/operators.ts'
import { Runtimes } from '../../store/runtimes.ts'
import type { VerifiedRuntime } from '../../store/verifier.ts'
import type { Body } from '../body.ts'
import { stagedFile } from '../endpoint/endpointprocess.ts'
import { plainEntry } from '../slot/entries.ts'
import { oneLine } from '../slot/said.ts'
import { Timeline } from '../slot/timeline.ts'

type InstallMessage = Extract<EndpointMessage, { op: 'install-runtime' }>
type PushOrder = Extract<Order, { order: 'push-runtime' }>
type RollbackOrder = Extract<Order, { order: 'rollback-runtime' }>
type Emit = (event: RuntimeEvent) => void

/** Puts the runtime that {@link RuntimeUpdates.runtimes} names in the place of this one. */
export interface Successor {
  /** Returns only by throwing Refusal: then everything goes on as before. */
  replace(by: string | null, restart: boolean): Promise<never>
}

const RUNTIME = { kind: 'runtime', program: RUNTIME_PROGRAM } as const
/** Time for the last event to reach the operator, before the session ends with the endpoint. */
const FAREWELL_MS = 100
/** Refusals of a replacement that ending the programs helps against. */
const HELPED: readonly string[] = ['wrong-wire', 'bad-board', 'unsupported']

export class RuntimeUpdates {
  readonly base: BaseInstall
  readonly runtimes: Runtimes
  readonly #body: Body
  readonly #digest = ownDigest()
  #successor: Successor | null = null
  /** Pushes, rollbacks and starts of programs that are under way. */
  #works = 0
  #isHealthy = false
  #isReplacing = false

  private constructor(body: Body, runtimes: Runtimes) {
    this.#body = body
    this.runtimes = runtimes
    this.base = baseInstall(body.options.base)
  }

  /** `failed`: why the runtime that replaced this one gave its programs back (HANDOVER 18.7). */
  static async open(body: Body, failed: string | undefined): Promise<RuntimeUpdates> {
    const runtimes = await Runtimes.open(body.home.dir)
    const updates = new RuntimeUpdates(body, runtimes)
    if (failed !== undefined && runtimes.state.current?.digest !== updates.#digest) await runtimes.undo(failed, now())
    const { current, confirmed } = runtimes.state
    // After a kill between the confirmation and the floor.
    if (current !== null && confirmed) await updates.#raiseFloor()
    return updates
  }

  /** To be called before any push comes. */
  begin(successor: Successor): void {
    this.#successor = successor
    void this.#tellNews()
  }

  report(): RuntimeReport {
    const { previous, since, confirmed, failed } = this.runtimes.state
    const { version, minimal } = this.#body.options
    const installed = { version: this.base.about.version, digest: null }
    const before = previous === null ? installed : { version: previous.version, digest: previous.digest }
    return {
      version,
      digest: this.#digest,
      since,
      // While it is being replaced, state.json speaks of the next one already.
      confirmed: confirmed || this.#isReplacing,
      base: installed.version,
      previous: this.#digest === null ? null : before,
      failed: failed.map((each) => ({ ...each })),
      ...(minimal === undefined ? {} : { minimal }),
    }
  }

  /** Changes a slot. Throws `in-progress` while the runtime is being replaced; the runtime is not replaced meanwhile (HANDOVER 17.4). */
  async during<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isReplacing) throw new Refusal('in-progress', 'the runtime is being replaced', 'medulla runtime')
    this.#works++
    try {
      return await work()
    } finally {
      this.#works--
    }
  }

  /** Returns only by throwing Refusal: the runtime was not replaced. */
  install(message: InstallMessage, emit: Emit): Promise<void> {
    const { pusher } = message
    return this.#alone(pusher, async (saw) => {
      const timeline = new Timeline(clockNs(), (phase, startMs) => emit({ event: 'phase', phase, startMs }))
      timeline.begin('verify')
      const order = this.#pushOrder(message)
      const seen = await this.#verify(message, order)
      saw(seen)
      timeline.begin('stage')
      await this.runtimes.install(seen)
      const { digest, signer, release } = seen
      const about = { digest, signer, pusher, version: release.version, counter: release.counter }
      await this.runtimes.choose({ ...about, base: this.base.about.version, time: now() })
      emit({ event: 'replacing', from: this.#digest, to: digest, version: release.version })
      return order?.restart === true
    })
  }

  /** Goes back to the runtime before this one. `order` was checked, and the operator signed it. As {@link install}. */
  rollback({ from, to, restart }: RollbackOrder, { fingerprint: pusher }: Operator, emit: Emit): Promise<void> {
    return this.#alone(pusher, async () => {
      const { previous } = this.runtimes.state
      if (this.#digest === null) {
        throw new Refusal('nothing-to-roll-back', 'the robot runs the installed runtime', 'medulla runtime')
      }
      if (from !== this.#digest || to !== (previous?.digest ?? null)) {
        const message = 'the robot has another runtime since this order was made'
        throw new Refusal('stale-order', message, 'medulla runtime rollback')
      }
      const version = previous?.version ?? this.base.about.version
      await this.runtimes.goBack(now())
      emit({ event: 'replacing', from, to, version })
      return restart
    })
  }

  /** The runtime is healthy: it is not undone any more, and older ones are refused. */
  async confirm(): Promise<void> {
    this.#isHealthy = true
    await this.runtimes.confirm(this.#digest)
    await this.#raiseFloor()
    await this.#tellNews()
  }

  async #raiseFloor(): Promise<void> {
    const { current } = this.runtimes.state
    if (current === null || current.digest !== this.#digest) return
    await this.#body.slots.committedRuntime(current.digest, { ...RUNTIME, counter: current.counter })
  }

  /** Writes the receipts of what happened while no body could. */
  async #tellNews(): Promise<void> {
    const { news } = this.runtimes.state
    for (const { outcome, reason, ...about } of news) {
      const why = reason === undefined ? {} : { reason: oneLine(reason, 500) }
      await this.#body.ledger.record(plainEntry('all', outcome, 0, { ...about, ...why, program: RUNTIME_PROGRAM }))
    }
    if (news.length > 0) await this.runtimes.told(news.length)
  }

  /** Does `work`, which chooses another runtime, with nothing else under way, and replaces this one. A refusal has a receipt. */
  async #alone(pusher: string, work: (saw: (verified: VerifiedRuntime) => void) => Promise<boolean>): Promise<void> {
    let seen: VerifiedRuntime | null = null
    try {
      this.#reserve()
      const before = this.runtimes.state
      try {
        const restart = await work((verified) => {
          seen = verified
        })
        await sleep(FAREWELL_MS)
        await this.#successor?.replace(pusher, restart)
      } catch (error) {
        // The new runtime was started to ask what it can do, and failed: that is its own fault.
        const isFault = seen !== null && error instanceof Refusal && error.code === 'died-at-start'
        if (isFault) await this.runtimes.undo(error.message, now())
        else await this.runtimes.restore(before)
        this.#isReplacing = false
        if (this.#isHealthy) await this.runtimes.confirm(this.#digest)
        throw error
      }
    } catch (error) {
      const refusal = error instanceof Refusal ? helped(error) : error
      if (refusal instanceof Refusal) await this.#refused(pusher, refusal, seen)
      void this.#tellNews()
      throw refusal
    }
  }

  /** Throws `in-progress` when anything else is under way. */
  #reserve(): void {
    const refusal = unsupported()
    if (refusal !== null) throw refusal
    const refuse = (message: string) => new Refusal('in-progress', message, 'medulla runtime')
    if (this.#isReplacing) throw refuse('the runtime is being replaced already')
    if (this.#works > 0) throw refuse('a program is being pushed or started')
    if (!this.runtimes.state.confirmed) throw refuse('the runtime was replaced just now, and has yet to prove itself')
    this.#isReplacing = true
  }

  async #verify(message: InstallMessage, order: PushOrder | null): Promise<VerifiedRuntime> {
    const { verifier, operators, endpointFolder } = this.#body
    const signers = [...operators.now.signers()]
    const seen = await verifier.verifyRuntime(
      { stagedFile: stagedFile(endpointFolder, message.staged), length: message.length, signers },
      ({ release, digest, signer }) =>
        this.#notOwner(signer) ??
        this.#notOwner(message.pusher) ??
        decideRuntime(release, digest, this.#facts(release, digest, order?.retry === true)),
    )
    const refusal = unlikeBase(seen.about, this.base.about)
    if (refusal !== null) throw refusal
    if (order !== null && order.digest !== null && order.digest !== seen.digest) {
      throw new Refusal('stale-order', `the order is for release ${order.digest}, the bundle holds ${seen.digest}`)
    }
    return seen
  }

  /** Both who signed and who pushed must be owners: a hostile endpoint chooses neither (HANDOVER 17.2). */
  #notOwner(fingerprint: string): Refusal | null {
    const operator = this.#body.operators.now.byFingerprint(fingerprint)
    if (operator?.role === 'owner') return null
    const who = operator === null ? fingerprint : `${operator.name} is ${operator.role}`
    return new Refusal('role', `a runtime must be signed and pushed by an owner; ${who}`, 'ask an owner of the robot')
  }

  /** The signed order for a retry or a restart. */
  #pushOrder({ order: signed, pusher }: InstallMessage): PushOrder | null {
    if (signed === null) return null
    const { order, by } = this.#body.orders.check(signed)
    if (order.order !== 'push-runtime') {
      throw new Refusal('usage', `expected an order to push a runtime, got one to ${order.order}`)
    }
    if (by.fingerprint === pusher) return order
    throw new Refusal('unknown-operator', 'the order is not signed by the operator who sent it')
  }

  #facts({ program }: Release, digest: string, retry: boolean): RuntimeFacts {
    const { slots, home, clockSynced } = this.#body
    const hasFailed = this.runtimes.state.failed.some((each) => each.digest === digest)
    return {
      robot: home.id,
      arch: process.arch,
      node: process.version,
      now: Date.now(),
      clockSynced,
      floor: slots.floor('runtime', program),
      committed: this.#digest,
      tried: hasFailed ? 'rolled-back' : slots.tried(digest),
      retry,
    }
  }

  async #refused(pusher: string, { code, message }: Refusal, seen: VerifiedRuntime | null): Promise<void> {
    if (this.#body.operators.now.byFingerprint(pusher) === null) return
    const about = seen === null ? {} : { version: seen.release.version, signer: seen.signer }
    const fields = { code, reason: oneLine(message, 500), pusher, to: seen?.digest ?? null, program: RUNTIME_PROGRAM }
    await this.#body.ledger.record(plainEntry('all', 'refused', 0, { ...fields, ...about }))
  }
}

const now = (): string => new Date().toISOString()

function helped(refusal: Refusal): Refusal {
  if (!HELPED.includes(refusal.code)) return refusal
  const hint = 'with --restart the programs are ended, and started again under the other runtime'
  return new Refusal(refusal.code, refusal.message, hint, { cause: refusal })
}
