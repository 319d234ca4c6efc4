/**
 * Invariant: presses and releases alternate, whatever the contact does.
 *
 * Debounced by the times of the edges alone, without a timer: after an edge that counted, edges are ignored for the
 * period. When the edge that ended inside the period was the last one, its event comes with the next edge.
 */
import type { Edge, Input, Level } from '../handle.ts'

export interface ButtonOptions {
  /** Level of the input while the button is held down. Default 1. */
  pressedLevel?: Level
  /** Default 20. 0 counts every edge. */
  debounceMs?: number
}

type Listener = (ns: bigint) => void

export class Button {
  readonly #input: Input
  readonly #pressedLevel: Level
  readonly #debounceNs: bigint
  readonly #listeners = { press: new Set<Listener>(), release: new Set<Listener>() }
  readonly #unsubscribe: () => void
  #pressed: boolean
  #counted: bigint | null = null
  #ignored: bigint | null = null

  constructor(input: Input, options: ButtonOptions = {}) {
    this.#input = input
    this.#pressedLevel = options.pressedLevel ?? 1
    this.#debounceNs = BigInt(Math.round((options.debounceMs ?? 20) * 1e6))
    this.#pressed = this.isPressed
    this.#unsubscribe = input.onEdge((edge) => this.#take(edge))
  }

  /** The contact as it is now, bouncing or not. */
  get isPressed(): boolean {
    return this.#input.read() === this.#pressedLevel
  }

  /** `listener` gets the time of the edge in ns. The returned function unsubscribes. */
  onPress(listener: Listener): () => void {
    return this.#on('press', listener)
  }

  onRelease(listener: Listener): () => void {
    return this.#on('release', listener)
  }

  /** Stops listening; the input stays open. */
  close(): void {
    this.#unsubscribe()
  }

  #on(event: 'press' | 'release', listener: Listener): () => void {
    const entry = (ns: bigint) => listener(ns)
    this.#listeners[event].add(entry)
    return () => this.#listeners[event].delete(entry)
  }

  #take({ level, ns }: Edge): void {
    if (this.#counted !== null && ns - this.#counted < this.#debounceNs) {
      this.#ignored = ns
      return
    }
    const pressed = level === this.#pressedLevel
    if (pressed === this.#pressed) this.#become(!pressed, this.#ignored ?? ns)
    this.#counted = ns
    this.#ignored = null
    this.#become(pressed, ns)
  }

  #become(pressed: boolean, ns: bigint): void {
    this.#pressed = pressed
    for (const listener of [...this.#listeners[pressed ? 'press' : 'release']]) listener(ns)
  }
}
