/**
 * A deadline for what another process must send. When this process was itself stopped or late, Node runs the overdue timer
 * before it reads what has come meanwhile: so the deadline counts only when nothing had come (HANDOVER 10.3).
 */

/** ms by which a timer fires late when this process was not given its turn. */
const LATE_MS = 50
/** HANDOVER 10.3: ms that whoever is awaited gets on top then, so that HANDLES 6.6 holds for a body that is late once, by 100 ms. */
const MOST_MS = 100

export class Timeout {
  #timer: NodeJS.Timeout | null = null
  #look: NodeJS.Immediate | null = null

  /** Replaces what was set before. `late` is called once, after `ms`, unless clear() comes first. */
  set(ms: number, late: () => void): void {
    this.clear()
    const due = performance.now() + ms
    this.#timer = setTimeout(() => {
      const lateMs = performance.now() - due
      if (lateMs < LATE_MS) this.#afterReading(late)
      else this.#timer = setTimeout(() => this.#afterReading(late), Math.min(lateMs, MOST_MS))
    }, ms)
  }

  clear(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    if (this.#look !== null) clearImmediate(this.#look)
    this.#timer = this.#look = null
  }

  get isSet(): boolean {
    return this.#timer !== null || this.#look !== null
  }

  /** Immediates run when the loop has read what its sockets and pipes hold. */
  #afterReading(late: () => void): void {
    this.#timer = null
    this.#look = setImmediate(() => {
      this.#look = null
      late()
    })
  }
}
