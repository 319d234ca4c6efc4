/**
 * Watches whether the endpoint answers. One that is silent is ended, and so replaced, like one that died (HANDOVER 16.5,
 * 8.3); programs do not notice.
 */

/** Before MEDULLA_TIME_SCALE, in ms. A Pi Zero may need 10 s until its endpoint reads its first message. */
const ASK_MS = 5000
const SILENT_MS = 30_000
/** A start waits for names to be resolved and for a sandbox. */
const START_MS = 120_000

export interface WatchedEndpoint {
  ask(): void
  /** Ends the endpoint. */
  silent(ms: number): void
}

export class EndpointWatch {
  readonly #scale: number
  #timer: NodeJS.Timeout | null = null
  /** When the next sign of life, exit or start is due; performance.now(). */
  #due: number

  constructor(scale: number) {
    this.#scale = scale
    this.#due = Number.POSITIVE_INFINITY
  }

  /** An endpoint is to be started after `waitMs`. */
  expectStart(waitMs: number): void {
    this.#rest()
    this.#due = performance.now() + waitMs + START_MS * this.#scale
  }

  begin({ ask, silent }: WatchedEndpoint): void {
    this.#rest()
    this.heard()
    let looked = performance.now()
    this.#timer = setInterval(() => {
      const now = performance.now()
      // When this process got no turn, the endpoint's answers are not read yet (HANDOVER 10.3).
      if (now - looked > 2 * ASK_MS * this.#scale) this.heard()
      looked = now
      if (now < this.#due) return ask()
      silent(SILENT_MS * this.#scale)
    }, ASK_MS * this.#scale)
    this.#timer.unref()
  }

  heard(): void {
    this.#due = performance.now() + SILENT_MS * this.#scale
  }

  close(): void {
    this.#rest()
    this.#due = Number.POSITIVE_INFINITY
  }

  /** How late the body is with ending or starting an endpoint, in ms; one look of the timer is no lateness. */
  get lateMs(): number {
    return Math.max(0, performance.now() - this.#due - ASK_MS * this.#scale)
  }

  #rest(): void {
    if (this.#timer !== null) clearInterval(this.#timer)
    this.#timer = null
  }
}
