/** What a robot keeps of a slot: its record in the home, the bundles, and the latch of its stop. */
import type { ReleaseRun } from '../../../deploy/shared/api.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import type { Bundles } from '../../store/bundles.ts'
import type { Checkpoint } from '../../store/checkpoint.ts'
import type { ParamSets, Slots } from '../../store/slots.ts'
import type { StopLatch } from '../stop/stops.ts'
import type { SlotStore } from './context.ts'
import { stored } from './runnables.ts'
import type { Runnable } from './running.ts'

/** The least first: ran well, did not crash or never ran, crashed. */
const rank = (run: ReleaseRun | undefined): number => (run?.well === true ? 0 : (run?.crashes ?? 0) === 0 ? 1 : 2)

export interface Disk {
  readonly slots: Slots
  readonly bundles: Bundles
  readonly stops: StopLatch
}

export class DiskSlotStore implements SlotStore {
  readonly #slot: string
  readonly #slots: Slots
  readonly #bundles: Bundles
  readonly #stops: StopLatch
  readonly #error: (text: string) => void

  /** `error` writes a line to the log of the slot. */
  constructor(slot: string, { slots, bundles, stops }: Disk, error: (text: string) => void) {
    this.#slot = slot
    this.#slots = slots
    this.#bundles = bundles
    this.#stops = stops
    this.#error = error
  }

  async committed(): Promise<Runnable | null> {
    const { runs } = this.#slots.get(this.#slot)
    const [current, ...older] = this.#slots.releases(this.#slot)
    if (current === undefined) return null
    // Those that ran well first, as `medulla rollback` chooses.
    const before = older.sort((a, b) => rank(runs[a]) - rank(runs[b]))
    const damaged: { digest: string; refusal: Refusal }[] = []
    for (const digest of [current, ...before]) {
      try {
        const runnable = await stored(this.#bundles, digest)
        return damaged.length === 0 ? runnable : await this.#fallBack(runnable, damaged)
      } catch (refusal) {
        if (!(refusal instanceof Refusal)) throw refusal
        // With no other release, the slot waits and logs this error itself.
        if (before.length > 0) this.#error(`${refusal.code}: ${refusal.message}`)
        damaged.push({ digest, refusal })
      }
    }
    throw damaged[0]?.refusal
  }

  /** The record, the log, `status` and the receipt of the start say that the newest release is damaged (HANDOVER 9.13). */
  async #fallBack(runnable: Runnable, damaged: { digest: string; refusal: Refusal }[]): Promise<Runnable> {
    const [first] = damaged
    if (first === undefined) return runnable
    const { code, message } = first.refusal
    const alarm = `${code}: ${message}; ${runnable.program} ${runnable.version} was started instead`
    const all = damaged.map(({ digest }) => digest)
    await this.#slots.fallBack(this.#slot, runnable.digest, all, alarm)
    return { ...runnable, instead: { digest: first.digest, code, reason: message } }
  }

  status(isIdle: boolean): ReturnType<SlotStore['status']> {
    const { current, previous, alarm, stopped } = this.#slots.get(this.#slot)
    const isStopped = isIdle && current !== null && (stopped || this.#stops.isStopped(this.#slot))
    return {
      ...(previous === null ? {} : { previous }),
      ...(alarm === undefined ? {} : { alarm }),
      ...(isStopped ? { stopped: true } : {}),
    }
  }

  isCommitted({ digest }: Runnable): boolean {
    return this.#slots.get(this.#slot).current === digest
  }

  get canGoBack(): boolean {
    return this.#slots.releases(this.#slot).length > 1
  }

  async commit(runnable: Runnable, raiseFloor: boolean): Promise<void> {
    const { program, digest } = runnable
    const counter = raiseFloor ? runnable.counter : this.#slots.floor('program', program)
    await this.#slots.commit(this.#slot, digest, { kind: 'program', program, counter })
    // Not awaited: if this write fails, the slot is stopped after the next start of the runtime.
    void this.#stops.startSlot(this.#slot)
  }

  async undone({ digest, program, version, signer }: Runnable, pusher: string): Promise<void> {
    await this.#slots.rolledBack(digest)
    const time = new Date().toISOString()
    await this.#slots.setUndone(this.#slot, { digest, program, version, signer, pusher, time })
  }

  async setStopped(stopped: boolean): Promise<void> {
    const slot = this.#slot
    // A slot without a commit is not started at boot, and leaves nothing on disk (HANDOVER 2.8).
    if (stopped && !this.#slots.isCommitted(slot)) return
    // Already stopped on disk: repeated stops write nothing (HANDOVER 8.19).
    if (stopped && this.#slots.get(slot).stopped && this.#stops.isStopped(slot)) return
    // The latch is written first, in place: a stop must be recorded on a full disk, too (HANDLES 6.11).
    const refused = stopped ? await this.#stops.stopSlot(slot) : null
    await this.#slots.setStopped(slot, stopped).catch((error: unknown) => {
      if (!stopped || refused !== null) throw error
    })
    const started = stopped ? null : await this.#stops.startSlot(slot)
    if (started !== null) throw started
  }

  runOf(digest: string): ReleaseRun | null {
    return this.#slots.get(this.#slot).runs[digest] ?? null
  }

  saveRun(digest: string, run: ReleaseRun, written: boolean): Promise<void> {
    return this.#slots.setRun(this.#slot, digest, run, written)
  }

  params(): ParamSets | null {
    return this.#slots.isCommitted(this.#slot) ? this.#slots.get(this.#slot).paramSets : null
  }

  async saveParams(sets: ParamSets): Promise<void> {
    await this.#slots.setParams(this.#slot, sets)
  }

  loadCheckpoint(program: string): Promise<Checkpoint | null> {
    return this.#slots.loadCheckpoint(this.#slot, program)
  }

  saveCheckpoint(checkpoint: Checkpoint): Promise<void> {
    return this.#slots.saveCheckpoint(this.#slot, checkpoint)
  }
}
