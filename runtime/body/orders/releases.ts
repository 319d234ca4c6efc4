/** The releases of a slot for a rollback, and the counters that new releases may have. */
import type { BundlePart, BundlePiece, CounterRange, ReleaseInfo } from '../../../deploy/shared/api.ts'
import { highestCounter } from '../../../deploy/shared/bundle/policy.ts'
import type { Release } from '../../../deploy/shared/bundle/release.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import type { Bundles } from '../../store/bundles.ts'
import type { Slots } from '../../store/slots.ts'
import { plainEntry, type ReceiptEntry } from '../slot/entries.ts'
import type { Slot } from '../slot/slot.ts'

/** What Releases needs of the body. */
interface Parts {
  readonly slots: Slots
  readonly bundles: Bundles
  readonly all: readonly Slot[]
  readonly ledger: { record(entry: ReceiptEntry): Promise<unknown> }
  readonly clockSynced: boolean
  /** The name of an operator by her fingerprint. */
  nameOf(fingerprint: string): string
}

export class Releases {
  readonly #body: Parts

  constructor(body: Parts) {
    this.#body = body
  }

  /** A piece of the bundle that the slot runs, read from the store without a check: the reader verifies it. */
  async piece(slot: string, part: BundlePart, offset: number): Promise<BundlePiece> {
    const { slots, bundles } = this.#body
    const { current } = slots.get(slot)
    if (current === null) throw new Refusal('not-found', `slot ${slot} has no program`)
    return { digest: current, ...(await bundles.piece(current, part, offset)) }
  }

  /** The running one first, then the newest; without damaged ones. Failed releases come last. */
  async list(slot: string): Promise<ReleaseInfo[]> {
    const { slots, bundles, all } = this.#body
    const { current, runs, undone } = slots.get(slot)
    const status = all.find(({ name }) => name === slot)?.status()
    const found = await Promise.all(
      slots.releases(slot).map(async (digest) => {
        const record = await bundles.record(digest).catch(() => null)
        if (record === null) return []
        const { signer, time, manifest } = record
        const { program, version } = manifest
        const pusher = this.#body.nameOf(record.pusher)
        const run = runs[digest]
        const now = status?.digest === digest && status.uptimeMs !== undefined ? { runsMs: status.uptimeMs } : {}
        const about = { digest, program, version, signer, pusher, time, current: digest === current }
        return [{ ...about, ...(run === undefined ? {} : { run }), ...now }]
      }),
    )
    const failed = undone.map((each): ReleaseInfo => {
      return { ...each, pusher: this.#body.nameOf(each.pusher), current: false, undone: true }
    })
    return [...found.flat(), ...failed]
  }

  /** The counters that a new release of this name may have (BUNDLE 6.8). */
  counterRange(kind: Release['kind'], program: string): CounterRange {
    const [floor, now] = [this.#body.slots.floor(kind, program), Date.now()]
    return { least: floor + 1, most: highestCounter({ floor, now }), now, synchronised: this.#body.clockSynced }
  }

  /** Forgets the newest counter of a program, so that older releases can be pushed (BUNDLE 10.14). */
  async resetFloor(program: string, by: string): Promise<CounterRange> {
    const before = this.#body.slots.floor('program', program)
    await this.#body.slots.resetFloor('program', program)
    const reason = `floor of ${program}: was ${before}, any counter is new again`
    await this.#body.ledger.record(plainEntry('all', 'changed', 0, { program, reason, pusher: by }))
    return this.counterRange('program', program)
  }
}
