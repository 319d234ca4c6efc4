/**
 * Carries out pushes and rollbacks. Invariant: no bundle is executed or stored before the body's own copy has passed signature,
 * hash, unpacking and policy (BUNDLE 10, HANDOVER 8.2; test/e2e/refused.test.ts).
 */
import { stat } from 'node:fs/promises'
import { DEFAULT_SLOT, type Order, type PushEvent } from '../../../deploy/shared/api.ts'
import type { SignedBuild } from '../../../deploy/shared/bundle/buildstatement.ts'
import { atFirstStart, decide, type RobotFacts, unset } from '../../../deploy/shared/bundle/policy.ts'
import type { Release } from '../../../deploy/shared/bundle/release.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { fingerprint } from '../../../deploy/shared/keys.ts'
import type { EndpointMessage } from '../../ipc.ts'
import { clockNs } from '../../sdk/ticker.ts'
import { WIRE } from '../../sdk/wire.ts'
import type { Operator } from '../../store/operators.ts'
import type { VerifiedBundle } from '../../store/verifier.ts'
import type { Body } from '../body.ts'
import { stagedFile } from '../endpoint/endpointprocess.ts'
import { plainEntry } from '../slot/entries.ts'
import { stored, verified } from '../slot/runnables.ts'
import { oneLine } from '../slot/said.ts'
import type { Slot } from '../slot/slot.ts'
import { Timeline } from '../slot/timeline.ts'
import { Upgrade } from '../slot/upgrade.ts'
import type { RuntimeUpdates } from '../update/updates.ts'
import { Bucket } from './receiptlimit.ts'

type Of<K extends EndpointMessage['op']> = Extract<EndpointMessage, { op: K }>
type PushOrder = Extract<Order, { order: 'push' }>
type RollbackOrder = Extract<Order, { order: 'rollback' }>
type Emit = (event: PushEvent) => void

/** Limit of delegations, because each has a receipt (HANDOVER 20.4). */
const DELEGATIONS = { burst: 32, perMinute: 1 }
/** The same for statements of builders (BUNDLE 17.4). */
const STATEMENTS = { burst: 64, perMinute: 6 }

export class Installer {
  readonly #body: Body
  readonly #updates: Pick<RuntimeUpdates, 'during'>
  readonly #statements = new Bucket(STATEMENTS, () => performance.now())
  readonly #delegated = new Bucket(DELEGATIONS, () => performance.now())

  constructor(body: Body, updates: Pick<RuntimeUpdates, 'during'>) {
    this.#body = body
    this.#updates = updates
  }

  /** Resolves when the push has ended and its result was emitted; throws Refusal when nothing was executed. */
  install(message: Of<'install'>, emit: Emit): Promise<void> {
    return this.#updates.during(() => this.#install(message, emit))
  }

  /**
   * Starts the program in this file, which came with the robot's card (BUNDLE 19); throws Refusal when nothing was executed.
   * `launching` is called once all checks have passed; a Refusal that it throws counts as one of theirs.
   */
  first(path: string, launching: () => Promise<void>, emit: Emit): Promise<void> {
    return this.#updates.during(() => this.#first(path, launching, emit))
  }

  /** Goes back to an earlier release (HANDOVER 7.9). `order` was checked, and `pusher` signed it. */
  rollback(order: RollbackOrder, pusher: string, emit: Emit): Promise<void> {
    return this.#updates.during(() => this.#rollback(order, pusher, emit))
  }

  /** The operator `by` lets another key sign for a while. */
  async delegate({ slot, key, hours }: Extract<Order, { order: 'delegate' }>, by: Operator): Promise<void> {
    const { delegations, ledger } = this.#body
    if (this.#delegated.tokens < 1) throw new Refusal('in-progress', 'too many delegations', 'try again in a minute')
    this.#delegated.take()
    delegations.add(key, slot, by, hours * 3_600_000)
    const reason = `${fingerprint(key)} may sign releases for slot ${slot} in the name of ${by.name} for ${hours} h`
    await ledger.record(plainEntry(slot, 'changed', 0, { reason, pusher: by.fingerprint }))
  }

  /** The robot keeps the statement of a builder, which an operator has brought. */
  async addBuild(signed: SignedBuild, by: Operator): Promise<void> {
    if (this.#statements.tokens < 1) throw new Refusal('in-progress', 'too many statements', 'try again in a minute')
    this.#statements.take()
    const { program, version, h1, fingerprint: builder } = await this.#body.builds.add(signed)
    const reason = `builder ${builder} gets ${h1} from the source of ${program} ${version}`
    const about = { program, version, reason, pusher: by.fingerprint }
    await this.#body.ledger.record(plainEntry('all', 'changed', 0, about))
  }

  async #install(message: Of<'install'>, emit: Emit): Promise<void> {
    const { verifier, bundles, operators, delegations, endpointFolder } = this.#body
    // The times that the endpoint measured are not in the receipt (HANDOVER 1.4).
    const timeline = new Timeline(clockNs(), (phase, startMs) => emit({ event: 'phase', phase, startMs }))
    timeline.begin('verify')
    let slot: Slot | null = null
    let seen: VerifiedBundle | null = null
    let order: PushOrder | null = null
    let letGo = (): void => {}
    try {
      slot = this.#body.slot(message.slot)
      slot.reserve()
      try {
        // A delegated key signs for one slot, in the pushes of its operator only (HANDOVER 20.2).
        const signers = [...operators.now.signers(), ...delegations.signers(message.slot, message.pusher)]
        const here = slot
        order = this.#pushOrder(message)
        const retry = order?.retry === true
        const facts = (release: Release, digest: string) => this.#facts(here, release, digest, retry)
        seen = await verifier.verify(
          { stagedFile: stagedFile(endpointFolder, message.staged), length: message.length, signers },
          ({ release, digest }) =>
            decide(release, digest, null, facts(release, digest)) ?? this.#body.builds.refusal(release),
        )
        const refusal = decide(seen.release, seen.digest, seen.manifest, facts(seen.release, seen.digest))
        if (refusal !== null) throw refusal
        if (order !== null && order.digest !== null && order.digest !== seen.digest) {
          throw new Refusal('stale-order', `the order is for release ${order.digest}, the bundle holds ${seen.digest}`)
        }
        timeline.begin('stage')
        letGo = bundles.hold(seen.digest)
      } catch (error) {
        slot.abandon()
        letGo()
        throw error
      }
    } catch (error) {
      if (error instanceof Refusal) await this.refused(message.slot, message.pusher, error, seen)
      if (slot !== null) await this.#body.letGo(slot)
      throw error
    }
    const { pusher } = message
    await this.#start(slot, seen, { pusher, force: order?.force === true, timeline, letGo }, emit)
  }

  async #first(path: string, launching: () => Promise<void>, emit: Emit): Promise<void> {
    const { verifier, bundles, operators } = this.#body
    const timeline = new Timeline(clockNs(), (phase, startMs) => emit({ event: 'phase', phase, startMs }))
    timeline.begin('verify')
    const slot = this.#body.slot(DEFAULT_SLOT)
    slot.reserve()
    let seen: VerifiedBundle | null = null
    try {
      const { size } = await stat(path)
      const job = { stagedFile: path, length: size, signers: [...operators.now.signers()] }
      const facts = (release: Release, digest: string) =>
        atFirstStart(this.#facts(slot, release, digest, false), release)
      seen = await verifier.verify(
        job,
        ({ release, digest }) =>
          decide(release, digest, null, facts(release, digest)) ?? this.#body.builds.refusal(release),
      )
      const refusal = decide(seen.release, seen.digest, seen.manifest, facts(seen.release, seen.digest))
      if (refusal !== null) throw refusal
      await launching()
    } catch (error) {
      slot.abandon()
      if (error instanceof Refusal && seen !== null) await this.refused(slot.name, seen.signer, error, seen)
      throw error
    }
    const letGo = bundles.hold(seen.digest)
    await this.#start(slot, seen, { pusher: seen.signer, force: false, timeline, letGo }, emit)
  }

  /** `slot` is reserved; `letGo` ends the hold on the bundle. */
  async #start(
    slot: Slot,
    seen: VerifiedBundle,
    { pusher, force, timeline, letGo }: { pusher: string; force: boolean; timeline: Timeline; letGo(): void },
    emit: Emit,
  ): Promise<void> {
    const stored = this.#body.bundles.put(seen, { pusher, time: new Date().toISOString() })
    stored.catch(() => {}) // launchNext awaits it, and handles the error
    const to = verified(seen, stored)
    const from = slot.goesBackTo
    const upgrade = new Upgrade({ kind: 'push', to, from, pusher, force, timeline, held: heldTo(emit) })
    const launched = this.#launch(slot, upgrade, emit)
    letGo()
    await launched
  }

  async #rollback(order: RollbackOrder, pusher: string, emit: Emit): Promise<void> {
    const timeline = new Timeline(clockNs(), (phase, startMs) => emit({ event: 'phase', phase, startMs }))
    timeline.begin('verify')
    let slot: Slot
    let upgrade: Upgrade
    try {
      slot = this.#body.known(order.slot)
      slot.reserve()
      try {
        this.#checkTarget(order)
        const to = await stored(this.#body.bundles, order.target)
        if (to.program !== order.program) {
          throw new Refusal('not-found', `expected a release of ${order.program}, got one of ${to.program}`)
        }
        // A release whose config values are not set cannot start (HANDOVER 15.3).
        const refusal = unset(to.manifest.config, this.#body.config.names)
        if (refusal !== null) throw refusal
        upgrade = new Upgrade({
          kind: 'rollback',
          to,
          from: slot.goesBackTo,
          pusher,
          force: false,
          timeline,
          held: heldTo(emit),
        })
      } catch (error) {
        slot.abandon()
        throw error
      }
    } catch (error) {
      if (error instanceof Refusal) await this.refused(order.slot, pusher, error, null)
      throw error
    }
    await this.#launch(slot, upgrade, emit)
  }

  async #launch(slot: Slot, upgrade: Upgrade, emit: Emit): Promise<void> {
    // A bundle is not removed while an upgrade to it is under way (HANDOVER 8.5).
    const { bundles, slots, keys } = this.#body
    const letGo = bundles.hold(upgrade.to.digest)
    try {
      const result = (await slot.launch(upgrade)) as PushEvent
      await this.#body.letGo(slot)
      emit(result)
    } finally {
      letGo()
      const failed = (error: unknown) =>
        slot.log.add('runtime', `old bundles were not removed: ${String(error)}`, 0, 'warn')
      // Not awaited: the push has ended, and bundles that stay are removed after the next one.
      bundles
        .prune(() => slots.digests())
        .then(() => keys.forgetRetired())
        .catch(failed)
    }
  }

  /** Records a refusal in the receipt log, if a known operator caused it: strangers leave no trace there (HANDOVER 8.4). */
  async refused(slot: string, pusher: string, refusal: Refusal, seen: VerifiedBundle | null): Promise<void> {
    if (this.#body.operators.now.byFingerprint(pusher) === null) return
    const about =
      seen === null ? {} : { program: seen.release.program, version: seen.release.version, signer: seen.signer }
    const { code, message } = refusal
    const fields = { code, reason: oneLine(message, 500), pusher, to: seen?.digest ?? null, ...about }
    await this.#body.ledger.record(plainEntry(slot, 'refused', 0, fields))
  }

  /** The signed order for force and retry: they must come from the operator who pushes, not from the endpoint. */
  #pushOrder({ order: signed, slot, pusher }: Of<'install'>): PushOrder | null {
    if (signed === null) return null
    const { order, by } = this.#body.orders.check(signed)
    if (order.order !== 'push') throw new Refusal('usage', `expected an order to push, got one to ${order.order}`)
    if (order.slot !== slot) throw new Refusal('wrong-slot', `the order is for slot ${order.slot}`)
    if (by.fingerprint !== pusher) {
      throw new Refusal('unknown-operator', 'the order is not signed by the operator who sent it')
    }
    return order
  }

  #checkTarget({ slot, target, from }: RollbackOrder): void {
    const { slots } = this.#body
    const { current } = slots.get(slot)
    if (from !== current) {
      throw new Refusal('stale-order', `slot ${slot} has another release since this order was made`, 'medulla rollback')
    }
    if (slots.releases(slot).includes(target)) return
    const hint = `medulla rollback --list --slot ${slot}`
    throw new Refusal('not-found', `slot ${slot} has no release ${target} to go back to`, hint)
  }

  #facts(slot: Slot, release: Release, digest: string, retry: boolean): RobotFacts {
    const { slots, home, owner, clockSynced, config } = this.#body
    return {
      robot: home.id,
      arch: process.arch,
      node: process.version,
      now: Date.now(),
      clockSynced,
      slot: slot.name,
      floor: slots.floor(release.kind, release.program),
      committed: slot.runs?.digest ?? null,
      tried: slots.tried(digest),
      retry,
      handles: owner.kinds(),
      leased: owner.leasedByOthers(slot.name),
      config: config.names,
      wire: WIRE,
    }
  }
}

const heldTo = (emit: Emit) => (reason: string) => emit({ event: 'held', reason })
