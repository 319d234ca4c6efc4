/** Exponential backoff: how long to wait before the next start of a process that keeps ending. */
export class Backoff {
  readonly #firstMs: number
  readonly #mostMs: number
  #failures = 0

  constructor(firstMs: number, mostMs: number) {
    this.#firstMs = firstMs
    this.#mostMs = mostMs
  }

  /** Counts a failure. The wait doubles with each one, up to the limit. */
  nextMs(): number {
    return Math.min(this.#firstMs * 2 ** this.#failures++, this.#mostMs)
  }

  /** The next wait is the first one again. */
  reset(): void {
    this.#failures = 0
  }
}
