/**
 * Invariant: a peer that sends without end gets a bounded share of the body's time, and nobody else notices
 * (HANDOVER 8.7; test/runtime/budget.test.ts).
 *
 * Two token buckets, of messages and of bytes. Not of time: on a busy machine time passes by nobody's fault.
 */

export interface Allowance {
  readonly messagesPerSecond: number
  readonly bytesPerSecond: number
  /** Seconds' worth that may come at once. */
  readonly burstSeconds: number
  /** ms of sending more without a pause, after which the peer is ended; absent: it is only slowed down. */
  readonly endAfterMs?: number
}

/** A program: its SDK sends 500 lines of 4 KiB of log a second at most (HANDOVER 9.4), heartbeats, and now and then an answer. */
export const PROGRAM_ALLOWANCE: Allowance = {
  messagesPerSecond: 1000,
  bytesPerSecond: 4 * 1024 * 1024,
  burstSeconds: 4,
  endAfterMs: 5000,
}
/** What is read of a program's stdout, and of its stderr; the rest is dropped unread. A chunk is a message. */
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
  /** When it was used up, and has not come back to half of its burst since; null: it is well within. */
  #overSince: number | null = null

  /** `now` in ms. */
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

  /** The peer has sent more than it may for too long. As of the last look at {@link waitMs}. */
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
