/**
 * A push button on an input.
 *
 * Invariant: presses and releases alternate, also when an edge is lost (test/drivers/program/devices/inputs.test.ts).
 *
 * The body debounces (`debounceMs` of the input), so that a swap in the middle of a bounce causes no second press.
 */
import type { Edge, Input, Level } from '../handle.ts'
import { lastEdge, setLastEdge } from '../lastedge.ts'

export interface ButtonOptions {
  /** Level of the input while the button is down. Default 1; use 0 for a button to ground with a pull-up. */
  pressedLevel?: Level
  /** How long the button must be down for a hold. Default 500. */
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
  /** true until the first edge: the level that was read may already include that edge. */
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
      // if this exceeds holdMs already, the predecessor has reported the hold, or it is too late for one
      this.#held = last.counted ?? 0
    }
    this.#unsubscribe = input.onEdge((edge) => this.#take(edge))
  }

  /** The current state of the contact. */
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
   * Called once for each press that lasts for `holdMs`, also across a swap: the successor's button counts on. After a
   * crash, or a predecessor without a button, the time since the edge counts. Needs {@link tick}.
   */
  onHold(listener: Listener): () => void {
    return this.#on('hold', listener)
  }

  /** `dt`: seconds since the last call. Only holds need ticks. */
  tick(dt: number): void {
    if (!this.#pressed) return
    const before = this.#held
    this.#held += dt
    this.#handOver()
    if (before >= this.#holdSeconds || this.#held < this.#holdSeconds) return
    // read the input again: an edge during the time when the program was parked was not delivered
    if (this.isPressed) this.#emit('hold', this.#since)
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

  /** Stores the time of this press for the successor. */
  #handOver(): void {
    setLastEdge(this.#input, { level: this.#pressedLevel, ns: Number(this.#since), counted: this.#held })
  }

  #take({ level, ns }: Edge): void {
    const pressed = level === this.#pressedLevel
    // the edge between was lost: report it now
    if (pressed === this.#pressed && !this.#fresh) this.#change(!pressed, ns)
    this.#fresh = false
    this.#change(pressed, ns)
  }

  #change(pressed: boolean, ns: bigint): void {
    this.#pressed = pressed
    this.#since = ns
    this.#held = 0
    this.#emit(pressed ? 'press' : 'release', ns)
  }

  #emit(event: Event, ns: bigint): void {
    for (const listener of [...this.#listeners[event]]) listener(ns)
  }
}
