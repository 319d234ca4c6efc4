/**
 * A deadline for what another process must send. When this process was itself stopped or late, Node runs the overdue timer
 * before it reads what has come meanwhile: so the deadline counts only when nothing had come (HANDOVER 10.3).
 */

/** A timer that fires so many ms late shows that this process got no turn. */
const LATE_MS = 50
/** HANDOVER 10.3: extra ms for the other process then. HANDLES 6.6 still holds for a body that is late once, by 100 ms. */
const MAX_GRACE_MS = 100

export class Timeout {
  #timer: NodeJS.Timeout | null = null
  #immediate: NodeJS.Immediate | null = null

  /**
   * Replaces what was set before. `onTimeout` is called once unless clear() comes first: after `ms`, or up to 100 ms later
   * when this process was late.
   */
  set(ms: number, onTimeout: () => void): void {
    this.clear()
    const due = performance.now() + ms
    this.#timer = setTimeout(() => {
      const lateMs = performance.now() - due
      if (lateMs < LATE_MS) this.#afterPoll(onTimeout)
      else this.#timer = setTimeout(() => this.#afterPoll(onTimeout), Math.min(lateMs, MAX_GRACE_MS))
    }, ms)
  }

  clear(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    if (this.#immediate !== null) clearImmediate(this.#immediate)
    this.#timer = this.#immediate = null
  }

  get isSet(): boolean {
    return this.#timer !== null || this.#immediate !== null
  }

  /** Immediates run when the event loop has read what sockets and pipes hold. */
  #afterPoll(onTimeout: () => void): void {
    this.#timer = null
    this.#immediate = setImmediate(() => {
      this.#immediate = null
      onTimeout()
    })
  }
}
