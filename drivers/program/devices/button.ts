/**
 * Invariant: presses and releases alternate.
 *
 * Bounces are the board's business: `debounceMs` of the input, which the body keeps, so that a swap in the middle of a
 * bounce is no second press.
 */
import type { Edge, Input, Level } from '../handle.ts'
import { lastEdge, setLastEdge } from '../lastedge.ts'

export interface ButtonOptions {
  /** Level of the input while the button is held down. Default 1; 0 for a button to ground with a pull up. */
  pressedLevel?: Level
  /** How long it is held until that is a hold. Default 500. */
  holdMs?: number
}

/** `ns` is the time of the edge, or of the press that became a hold, in ns of CLOCK_MONOTONIC. */
type Listener = (ns: bigint) => void
type Event = 'press' | 'release' | 'hold'

export class Button {
  readonly #input: Input
  readonly #pressedLevel: Level
  readonly #holdSeconds: number
  readonly #listeners: Record<Event, Set<Listener>> = { press: new Set(), release: new Set(), hold: new Set() }
  readonly #unsubscribe: () => void
  #pressed: boolean
  /** No edge was heard yet: the first one may already be in what was read. */
  #fresh = true
  #since = 0n
  #held = 0

  constructor(input: Input, { pressedLevel = 1, holdMs = 500 }: ButtonOptions = {}) {
    this.#input = input
    this.#pressedLevel = pressedLevel
    this.#holdSeconds = holdMs / 1000
    this.#pressed = this.isPressed
    const last = lastEdge(input)
    if (this.#pressed && last?.level === pressedLevel) {
      this.#since = BigInt(last.ns)
      // what reaches to holdMs already was told by the predecessor, or is too late
      this.#held = last.counted ?? 0
    }
    this.#unsubscribe = input.onEdge((edge) => this.#take(edge))
  }

  /** The contact as it is now. */
  get isPressed(): boolean {
    return this.#input.read() === this.#pressedLevel
  }

  /** The returned function unsubscribes. */
  onPress(listener: Listener): () => void {
    return this.#on('press', listener)
  }

  onRelease(listener: Listener): () => void {
    return this.#on('release', listener)
  }

  /**
   * Once for each press that lasts for `holdMs`, over swaps too: a successor's button goes on where this one was. After a
   * crash, and with a program that had no button there, the time is that since the edge. Needs {@link tick}.
   */
  onHold(listener: Listener): () => void {
    return this.#on('hold', listener)
  }

  /** With the seconds since the last call; only holds need it. */
  tick(dt: number): void {
    if (!this.#pressed) return
    const before = this.#held
    this.#held += dt
    this.#note()
    if (before >= this.#holdSeconds || this.#held < this.#holdSeconds) return
    // an edge that came while the program was parked is not heard of
    if (this.isPressed) this.#tell('hold', this.#since)
  }

  /** Stops listening; the input stays open. */
  close(): void {
    this.#unsubscribe()
  }

  #on(event: Event, listener: Listener): () => void {
    const entry = (ns: bigint) => listener(ns)
    this.#listeners[event].add(entry)
    return () => this.#listeners[event].delete(entry)
  }

  /** For the successor: how far this press has been counted. */
  #note(): void {
    setLastEdge(this.#input, { level: this.#pressedLevel, ns: Number(this.#since), counted: this.#held })
  }

  #take({ level, ns }: Edge): void {
    const pressed = level === this.#pressedLevel
    // an edge between was lost
    if (pressed === this.#pressed && !this.#fresh) this.#become(!pressed, ns)
    this.#fresh = false
    this.#become(pressed, ns)
  }

  #become(pressed: boolean, ns: bigint): void {
    this.#pressed = pressed
    this.#since = ns
    this.#held = 0
    this.#tell(pressed ? 'press' : 'release', ns)
  }

  #tell(event: Event, ns: bigint): void {
    for (const listener of [...this.#listeners[event]]) listener(ns)
  }
}
