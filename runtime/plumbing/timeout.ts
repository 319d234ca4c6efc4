/**
 * A deadline for a message of another process. When this process was itself stopped or late, Node runs the overdue timer
 * before it reads the messages that have arrived; so they are read first, and the deadline counts after that (HANDOVER 10.3).
 */

/** A timer that fires this late, in ms, shows that this process did not get the CPU. */
const LATE_MS = 50
/** Extra ms for the other process then (HANDOVER 10.3). With 100 ms, a body that is late once still keeps HANDLES 6.6. */
const MAX_GRACE_MS = 100

export class Timeout {
  #timer: NodeJS.Timeout | null = null
  #immediate: NodeJS.Immediate | null = null

  /**
   * Replaces the previous deadline. `onTimeout` is called once unless clear() comes first: after `ms`, or up to 100 ms later
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

  /** Immediates run after the event loop has read its sockets and pipes. */
  #afterPoll(onTimeout: () => void): void {
    this.#timer = null
    this.#immediate = setImmediate(() => {
      this.#immediate = null
      onTimeout()
    })
  }
}
