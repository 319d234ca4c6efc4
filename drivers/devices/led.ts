/** Invariant: a LED knows nothing but its output; what it shows survives a swap. */
import type { Level, Output } from '../handle.ts'

export class Led {
  readonly #output: Output

  constructor(output: Output) {
    this.#output = output
  }

  get isOn(): boolean {
    return this.#output.value === 1
  }

  set(level: Level | boolean): void {
    this.#output.write(level)
  }

  on(): void {
    this.#output.write(1)
  }

  off(): void {
    this.#output.write(0)
  }

  toggle(): void {
    this.#output.write(!this.isOn)
  }
}
