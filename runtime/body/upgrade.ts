/** Invariant: an upgrade is answered exactly once, with what really happened. */
import { randomBytes } from 'node:crypto'
import type { Outcome, PushEvent, Receipt } from '../../deploy/api.ts'
import type { Manifest } from '../../deploy/bundle/manifest.ts'
import type { RefusalCode } from '../../deploy/errors.ts'
import { monotonicNs } from '../sdk/ticker.ts'
import type { FromProgram } from '../sdk/wire.ts'
import type { Child } from './child.ts'
import type { Timeline } from './timeline.ts'

/** A verified program that can be started. */
export interface Runnable {
  digest: string
  program: string
  version: string
  signer: string
  counter: number
  manifest: Manifest
  /** Writes program.mjs into a folder of the instance, verified again where it comes from disk. */
  extract(folder: string): Promise<void>
}

/** A child and what it runs. */
export interface Running {
  readonly child: Child
  readonly runnable: Runnable
  /** performance.now() when it became the one that runs */
  startedAt: number
}

export interface Cause {
  code: RefusalCode
  message: string
}

export class Upgrade {
  readonly kind: 'push' | 'rollback'
  readonly to: Runnable
  readonly from: Runnable | null
  readonly pusher: string | undefined
  readonly force: boolean
  /** 32 hex digits; records and messages of another swap are ignored */
  readonly swap = randomBytes(16).toString('hex')
  readonly timeline: Timeline
  readonly finished: Promise<PushEvent>
  cause: Cause | null = null
  /** it failed through no fault of the new program: its digest is not remembered as tried (HANDOVER 7.7) */
  blameless = false
  held: string | null = null
  gapMs: number | null = null
  stateBytes = 0
  stateAgeMs: number | undefined
  /** from the revocation to the confirmed stop of the old program */
  fenceMs: number | null = null
  /** when no program could write */
  window: { fromNs: number; toNs: number } | null = null
  edges: number | null = null
  #finish: (event: PushEvent) => void = () => {}

  constructor(opts: {
    kind: Upgrade['kind']
    to: Runnable
    from: Runnable | null
    pusher?: string
    force: boolean
    timeline: Timeline
  }) {
    this.kind = opts.kind
    this.to = opts.to
    this.from = opts.from
    this.pusher = opts.pusher
    this.force = opts.force
    this.timeline = opts.timeline
    this.finished = new Promise((resolve) => {
      this.#finish = resolve
    })
  }

  tookOver(message: Extract<FromProgram, { t: 'took' }>): void {
    this.timeline.begin('transfer', message.revokedNs)
    this.timeline.begin('takeover', message.receivedNs)
    this.timeline.begin('trial', message.startedNs)
    this.gapMs = (message.liveNs - message.revokedNs) / 1e6
    this.stateBytes = message.bytes
    this.window = { fromNs: message.revokedNs, toNs: message.liveNs }
  }

  /** HANDLES 10.7: now, the old program was seen stopped. */
  fenced(): void {
    if (this.window !== null) this.fenceMs = (monotonicNs() - this.window.fromNs) / 1e6
  }

  /** The first cause stays: what follows from it explains nothing. */
  because(cause: Cause, blameless: boolean): void {
    if (this.cause !== null) return
    this.cause = cause
    this.blameless = blameless
  }

  finish(outcome: Outcome, message: string, receipt: Receipt, hint?: string): void {
    const code = this.cause?.code
    this.#finish({
      event: 'result',
      outcome,
      message,
      receipt,
      ...(code === undefined ? {} : { code }),
      ...(hint === undefined ? {} : { hint }),
    })
  }
}
