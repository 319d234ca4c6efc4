/**
 * Invariant: nothing is executed or stored before signature, hash, unpacking and policy have passed on the body's own copy
 * (design invariant "Bytes", BUNDLE 10, HANDOVER 8.2).
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { type Order, type PushEvent, ROLE_RANK } from '../../deploy/api.ts'
import { decide, type RobotFacts } from '../../deploy/bundle/policy.ts'
import type { Release } from '../../deploy/bundle/release.ts'
import { verifyBase64 } from '../../deploy/bundle/sshsig.ts'
import { Refusal } from '../../deploy/errors.ts'
import type { EndpointMessage } from '../ipc.ts'
import { monotonicNs } from '../sdk/ticker.ts'
import { WIRE } from '../sdk/wire.ts'
import type { Verified } from '../store/door.ts'
import { plainEntry } from './entries.ts'
import type { Robot } from './robot.ts'
import { stored, verified } from './runnables.ts'
import type { Slot } from './slot.ts'
import { Timeline } from './timeline.ts'
import { Upgrade } from './upgrade.ts'

type Of<K extends EndpointMessage['op']> = Extract<EndpointMessage, { op: K }>
type Emit = (event: PushEvent) => void

/** systemd-timesyncd makes this file once the clock was set (systemd-timesyncd.service(8)). */
const SYNCHRONIZED = '/run/systemd/timesync/synchronized'

export class Installer {
  readonly #robot: Robot

  constructor(robot: Robot) {
    this.#robot = robot
  }

  /** Resolves when the push has ended and its result was emitted; throws Refusal when nothing was executed. */
  async install(message: Of<'install'>, emit: Emit): Promise<void> {
    const { home, door, bundles, operators } = this.#robot
    const { start, received, opened } = message.marks
    const timeline = new Timeline(start * 1e6, (phase, startMs) => emit({ event: 'phase', phase, startMs }))
    timeline.begin('receive')
    timeline.begin('open', received * 1e6)
    timeline.begin('verify', opened * 1e6)
    const slot = this.#robot.slot(message.slot)
    let seen: Verified | null = null
    let letGo = (): void => {}
    try {
      slot.reserve()
      try {
        const signers = [...operators.signers()]
        const facts = (release: Release, digest: string) => this.#facts(message, slot, release, digest)
        seen = await door.verify(
          { stagedFile: join(home.staging, message.staged), length: message.length, signers },
          ({ release, digest }) => decide(release, digest, null, facts(release, digest)),
        )
        const refusal = decide(seen.release, seen.digest, seen.manifest, facts(seen.release, seen.digest))
        if (refusal !== null) throw refusal
        timeline.begin('stage')
        letGo = bundles.hold(seen.digest)
      } catch (error) {
        slot.abandon()
        letGo()
        throw error
      }
    } catch (error) {
      if (error instanceof Refusal) await this.refused(message.slot, message.pusher, error, seen)
      throw error
    }
    const { pusher, force } = message
    const stored = bundles.put(seen, { pusher, time: new Date().toISOString() })
    stored.catch(() => {}) // who starts it looks at it
    const to = verified(seen, stored)
    const upgrade = new Upgrade({
      kind: 'push',
      to,
      from: slot.goesBackTo,
      pusher,
      force,
      timeline,
      held: heldTo(emit),
    })
    const launched = this.#launch(slot, upgrade, emit)
    letGo()
    await launched
  }

  /** HANDOVER 7.9: an operator's signed order over robot, slot, program, target and the newest receipt it saw. */
  async rollback(message: Of<'rollback'>, emit: Emit): Promise<void> {
    const timeline = new Timeline(monotonicNs(), (phase, startMs) => emit({ event: 'phase', phase, startMs }))
    timeline.begin('verify')
    const slot = this.#robot.slot(message.slot)
    let upgrade: Upgrade
    try {
      slot.reserve()
      try {
        const order = this.#order(message)
        const to = await stored(this.#robot.bundles, order.target)
        if (to.program !== order.program) {
          throw new Refusal('not-found', `expected a release of ${order.program}, got one of ${to.program}`)
        }
        const { pusher } = message
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
      if (error instanceof Refusal) await this.refused(message.slot, message.pusher, error, null)
      throw error
    }
    await this.#launch(slot, upgrade, emit)
  }

  async #launch(slot: Slot, upgrade: Upgrade, emit: Emit): Promise<void> {
    // HANDOVER 8.5
    const { bundles, slots } = this.#robot
    const letGo = bundles.hold(upgrade.to.digest)
    try {
      emit((await slot.launch(upgrade)) as PushEvent)
    } finally {
      letGo()
      // what is done is done: old bundles may stay a while
      const stays = (error: unknown) => slot.log.add('runtime', `not pruned: ${String(error)}`, 0, 'warn')
      // nobody waits for it
      bundles.prune(() => slots.digests()).catch(stays)
    }
  }

  /** HANDOVER 8.4: what a known operator was refused is in the log; strangers do not get there. */
  async refused(slot: string, pusher: string, refusal: Refusal, seen: Verified | null): Promise<void> {
    const about =
      seen === null ? {} : { program: seen.release.program, version: seen.release.version, signer: seen.signer }
    const { code, message } = refusal
    const fields = { code, reason: message.slice(0, 500), pusher, to: seen?.digest ?? null, ...about }
    await this.#robot.record(plainEntry(slot, 'refused', 0, fields))
  }

  #order(message: Of<'rollback'>): Order {
    const { home, operators, receipts, slots } = this.#robot
    const { publicKey, fingerprint } = verifyBase64(message.sig, 'order@medulla', Buffer.from(message.order))
    const operator = operators.byFingerprint(fingerprint)
    const known = operator !== null && operator.publicKey === publicKey && fingerprint === message.pusher
    if (!known || ROLE_RANK[operator.role] < ROLE_RANK.operator) {
      throw new Refusal('unknown-operator', 'the order is not signed by the operator who sent it')
    }
    const order = parseOrder(message.order)
    if (order.robot !== home.id) throw new Refusal('wrong-robot', `the order is for ${order.robot}, this is ${home.id}`)
    if (order.slot !== message.slot) throw new Refusal('wrong-slot', `the order is for slot ${order.slot}`)
    if (order.head !== receipts.head().digest) {
      throw new Refusal('stale-order', 'something happened on the robot since this order was made', 'medulla rollback')
    }
    if (!slots.releases(order.slot).includes(order.target)) {
      const hint = `medulla rollback --list --slot ${order.slot}`
      throw new Refusal('not-found', `slot ${order.slot} has no release ${order.target} to go back to`, hint)
    }
    return order
  }

  #facts(message: Of<'install'>, slot: Slot, release: Release, digest: string): RobotFacts {
    const { slots, home, operators, owner, options } = this.#robot
    return {
      robot: home.id,
      arch: process.arch,
      node: process.version,
      now: Date.now(),
      clockSynced: options.sim || existsSync(SYNCHRONIZED),
      slot: message.slot,
      floor: slots.floor(release.kind, release.program),
      pusherIsOwner: operators.byFingerprint(message.pusher)?.role === 'owner',
      committed: slot.runs?.digest ?? null,
      tried: slots.tried(digest),
      retry: message.retry,
      handles: owner.kinds(),
      leased: owner.leasedByOthers(message.slot),
      wire: WIRE,
    }
  }
}

const heldTo = (emit: Emit) => (reason: string) => emit({ event: 'held', reason })

function parseOrder(text: string): Order {
  const keys = ['format', 'order', 'robot', 'slot', 'program', 'target', 'head']
  let order: Record<string, unknown>
  try {
    order = JSON.parse(text) as Record<string, unknown>
  } catch {
    throw new Refusal('unknown-format', 'expected an order as JSON')
  }
  const fits = keys.every((key) => typeof order?.[key] === 'string') && Object.keys(order).length === keys.length
  if (!fits || order.format !== 'medulla-order/1' || order.order !== 'rollback') {
    throw new Refusal('unknown-format', 'expected a medulla-order/1 to roll back')
  }
  return order as unknown as Order
}
