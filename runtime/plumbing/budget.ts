/**
 * Invariant: a peer that sends without end gets a bounded share of the body's time (HANDOVER 8.7;
 * test/runtime/plumbing/budget.test.ts).
 *
 * Two token buckets, of messages and of bytes. Not of time: on a busy machine a message takes longer without the peer's fault.
 */

export interface Allowance {
  readonly messagesPerSecond: number
  readonly bytesPerSecond: number
  /** This many seconds' worth may come at once. */
  readonly burstSeconds: number
  /** A peer that stays over its budget for this long, in ms, is ended; absent: it is only slowed down. */
  readonly endAfterMs?: number
}

/** A program: its SDK sends at most 500 log lines of 4 KiB a second (HANDOVER 9.4), heartbeats, and a few answers. */
export const PROGRAM_ALLOWANCE: Allowance = {
  messagesPerSecond: 1000,
  bytesPerSecond: 4 * 1024 * 1024,
  burstSeconds: 4,
  endAfterMs: 5000,
}
/** A program's stdout, and its stderr; what exceeds it is dropped unread. A chunk counts as a message. */
export const OUTPUT_ALLOWANCE: Allowance = { messagesPerSecond: 1000, bytesPerSecond: 1024 * 1024, burstSeconds: 4 }
/** The endpoint: the requests of all its sessions. */
export const ENDPOINT_ALLOWANCE: Allowance = {
  messagesPerSecond: 2000,
  bytesPerSecond: 8 * 1024 * 1024,
  burstSeconds: 2,
}

export class Budget {
  readonly #allowance: Allowance
  readonly #now: () => number
  #messages: number
  #bytes: number
  #at: number
  /** When the budget was used up; null once it is back to half of its burst. */
  #overSince: number | null = null

  /** `now`: a clock in ms. */
  constructor(allowance: Allowance, now: () => number = () => performance.now()) {
    this.#allowance = allowance
    this.#now = now
    this.#messages = allowance.messagesPerSecond * allowance.burstSeconds
    this.#bytes = allowance.bytesPerSecond * allowance.burstSeconds
    this.#at = now()
  }

  spend(messages: number, bytes: number): void {
    this.#messages -= messages
    this.#bytes -= bytes
  }

  /** Whether the peer has been over its budget for too long, as of the last read of {@link waitMs}. */
  get isFlooded(): boolean {
    const { endAfterMs } = this.#allowance
    return endAfterMs !== undefined && this.#overSince !== null && this.#now() - this.#overSince > endAfterMs
  }

  /** ms until the peer may be read again; 0: now. */
  get waitMs(): number {
    const { messagesPerSecond, bytesPerSecond, burstSeconds } = this.#allowance
    const now = this.#now()
    const seconds = (now - this.#at) / 1000
    this.#at = now
    this.#messages = Math.min(this.#messages + seconds * messagesPerSecond, messagesPerSecond * burstSeconds)
    this.#bytes = Math.min(this.#bytes + seconds * bytesPerSecond, bytesPerSecond * burstSeconds)
    const missing = Math.max(-this.#messages / messagesPerSecond, -this.#bytes / bytesPerSecond)
    if (missing > 0) this.#overSince ??= now
    else if (-missing > burstSeconds / 2) this.#overSince = null
    return missing <= 0 ? 0 : Math.ceil(missing * 1000) + 1
  }
}
