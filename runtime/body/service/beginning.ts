/** The first start of each slot's program: under way until the program runs, or waits, or failed (HANDOVER 16.2). */
import type { State } from '../slot/lifecycle.ts'

export class Beginning {
  readonly #slots = new Set<string>()
  readonly #over: () => void
  #isOver = false

  constructor(over: () => void) {
    this.#over = over
  }

  add(slot: string): void {
    this.#slots.add(slot)
  }

  /** Every slot that is to be started was added. */
  complete(): void {
    this.#settle()
  }

  /** A slot has handled an event. */
  moved(slot: string, state: State): void {
    if (state !== 'restarting' && this.#slots.delete(slot)) this.#settle()
  }

  #settle(): void {
    if (this.#isOver || this.#slots.size > 0) return
    this.#isOver = true
    this.#over()
  }
}
