/** One push or rollback: its programs, its times, its cause of failure, and its one result. */
import { randomBytes } from 'node:crypto'
import type { Outcome, PushEvent, Receipt } from '../../../deploy/shared/api.ts'
import { clockNs } from '../../sdk/ticker.ts'
import type { FromProgram } from '../../sdk/wire.ts'
import type { Cause } from './cause.ts'
import type { Fault } from './lifecycle.ts'
import type { Runnable } from './running.ts'
import { oneLine } from './said.ts'
import type { Timeline } from './timeline.ts'

export class Upgrade {
  readonly kind: 'push' | 'rollback'
  readonly to: Runnable
  readonly from: Runnable | null
  readonly pusher: string | undefined
  readonly force: boolean
  /** 32 hex digits; records and messages of another swap are ignored. */
  readonly swap = randomBytes(16).toString('hex')
  readonly timeline: Timeline
  readonly finished: Promise<PushEvent>
  cause: Cause | null = null
  fault: Fault = 'nobody'
  /** Why the old program does not yield yet. */
  held: string | null = null
  /** Appended to the message of a commit. */
  notes: string[] = []
  gapMs: number | null = null
  stateBytes = 0
  stateAgeMs: number | undefined
  /** From the revocation to the confirmed stop of the old program. */
  fenceMs: number | null = null
  /** The time in which no program could write. */
  window: { fromNs: number; toNs: number } | null = null
  edges: number | null = null
  #finish: (event: PushEvent) => void = () => {}
  readonly #onHeld: (reason: string) => void

  constructor(opts: {
    kind: Upgrade['kind']
    to: Runnable
    from: Runnable | null
    pusher?: string
    force: boolean
    timeline: Timeline
    held?: (reason: string) => void
  }) {
    this.kind = opts.kind
    this.to = opts.to
    this.from = opts.from
    this.pusher = opts.pusher
    this.force = opts.force
    this.timeline = opts.timeline
    this.#onHeld = opts.held ?? (() => {})
    this.finished = new Promise((resolve) => {
      this.#finish = resolve
    })
  }

  /** The candidate is ready now, after `ms` of rehearsals. */
  rehearsed(ms: number): void {
    this.timeline.begin('rehearse', clockNs() - ms * 1e6)
  }

  /** The old program does not yield yet; `said` is its reason (HANDOVER 6.10). */
  hold(said: string): void {
    const reason = oneLine(said)
    if (reason === this.held) return
    this.held = reason
    this.#onHeld(reason)
  }

  /**
   * The times that a program reports count if they are in order and lie between the body's order to yield and now. Otherwise
   * that whole interval is the gap, and the result is false (HANDOVER 3.10).
   */
  tookOver({ revokedNs, receivedNs, liveNs, startedNs, bytes }: Extract<FromProgram, { t: 'took' }>): boolean {
    if (this.window !== null) return true
    const nowNs = clockNs()
    const askedNs = this.timeline.begunNs('yield') ?? nowNs
    const claimed = [askedNs, revokedNs, receivedNs, liveNs, startedNs, nowNs]
    const fits = claimed.every((ns, i) => ns >= (claimed[i - 1] ?? 0))
    this.window = fits ? { fromNs: revokedNs, toNs: liveNs } : { fromNs: askedNs, toNs: nowNs }
    this.timeline.begin('transfer', this.window.fromNs)
    this.timeline.begin('takeover', fits ? receivedNs : nowNs)
    this.timeline.begin('trial', fits ? startedNs : nowNs)
    this.gapMs = (this.window.toNs - this.window.fromNs) / 1e6
    this.stateBytes = bytes
    return fits
  }

  /** The old program goes on from a parked state of this age; null: from the state that the new one gave back. */
  goesBack(ageMs: number | null): void {
    if (ageMs !== null) this.stateAgeMs = ageMs
  }

  /** The old program was seen stopped now (HANDLES 10.7). */
  fenced(): void {
    if (this.window !== null) this.fenceMs = (clockNs() - this.window.fromNs) / 1e6
  }

  /** Counts the changes of the slot's outputs while no program could write; only the first count is kept. */
  countEdges(count: (fromNs: number, toNs: number) => number | null): void {
    if (this.window !== null) this.edges ??= count(this.window.fromNs, this.window.toNs)
  }

  /** The first cause is kept: the later ones follow from it. */
  setCause(cause: Cause, fault: Fault): void {
    if (this.cause !== null) return
    this.cause = cause
    this.fault = fault
  }

  finish(outcome: Outcome, message: string, receipt: Receipt | null, hint?: string): void {
    const code = this.cause?.code
    this.#finish({
      event: 'result',
      outcome,
      message: receipt === null ? `${message}; its receipt is not on disk` : message,
      ...(receipt === null ? {} : { receipt }),
      ...(code === undefined ? {} : { code }),
      ...(hint === undefined ? {} : { hint }),
    })
  }
}
