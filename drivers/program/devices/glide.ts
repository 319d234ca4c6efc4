/** Moves a value linearly from one number to another. It has no clock: the caller passes the elapsed time. */
export class Glide {
  readonly #from: number
  readonly #to: number
  readonly #seconds: number
  #elapsed = 0

  constructor(from: number, to: number, seconds: number) {
    this.#from = from
    this.#to = to
    this.#seconds = seconds
  }

  get isDone(): boolean {
    return this.#elapsed >= this.#seconds
  }

  /** The value `dt` seconds later; at the end exactly the target. */
  next(dt: number): number {
    this.#elapsed += dt
    if (this.isDone) return this.#to
    return this.#from + (this.#to - this.#from) * (this.#elapsed / this.#seconds)
  }
}
