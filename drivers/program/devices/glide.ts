/** Invariant: a glide is a straight way from one value to another, by the time it is told; it knows no clock. */
export class Glide {
  readonly #from: number
  readonly #to: number
  readonly #seconds: number
  #gone = 0

  constructor(from: number, to: number, seconds: number) {
    this.#from = from
    this.#to = to
    this.#seconds = seconds
  }

  get isDone(): boolean {
    return this.#gone >= this.#seconds
  }

  /** The value `dt` seconds later; at the end the exact one. */
  next(dt: number): number {
    this.#gone += dt
    if (this.isDone) return this.#to
    return this.#from + (this.#to - this.#from) * (this.#gone / this.#seconds)
  }
}
