/**
 * A quadrature encoder on two inputs.
 *
 * Invariant: each edge counts once, in the order of time over both lines (test/drivers/program/devices/inputs.test.ts). Edges of
 * different lines may arrive out of order, so they are collected, and sorted when the position is read.
 */
import type { Edge, Input } from '../handle.ts'

export interface EncoderOptions {
  /** The position to start from, in counts; for example the previous program's. Default 0. */
  position?: number
  /** true: counts the other way. Default false. */
  inverted?: boolean
}

type Line = 'a' | 'b'
interface Waiting extends Edge {
  readonly line: Line
}

const MOST_WAITING = 256

/** A quadrature encoder on two inputs, with `edges` "both": four counts for each period of one line. */
export class Encoder {
  readonly #inputs: Record<Line, Input>
  readonly #sign: 1 | -1
  readonly #levels: Record<Line, number>
  /** Lines without an edge so far: the level that was read may already be the one after the first edge. */
  readonly #fresh = new Set<Line>(['a', 'b'])
  readonly #unsubscribe: (() => void)[] = []
  #waiting: Waiting[] = []
  #position: number
  #direction: -1 | 0 | 1 = 0
  #missed = 0

  constructor(a: Input, b: Input, { position = 0, inverted = false }: EncoderOptions = {}) {
    this.#inputs = { a, b }
    this.#sign = inverted ? -1 : 1
    this.#position = position
    this.#levels = { a: a.read(), b: b.read() }
    for (const line of ['a', 'b'] as const) {
      const take = (edge: Edge) => {
        this.#waiting.push({ ...edge, line })
        if (this.#waiting.length >= MOST_WAITING) this.#count()
      }
      this.#unsubscribe.push(this.#inputs[line].onEdge(take))
    }
  }

  /** Counts. The position rises when the edges of `a` come before those of `b`. */
  get position(): number {
    this.#count()
    return this.#position
  }

  /** Direction of the last count: 1 or -1; 0 before the first. */
  get direction(): -1 | 0 | 1 {
    this.#count()
    return this.#direction
  }

  /** Number of lost edges. The position may be off by twice as much. */
  get missed(): number {
    this.#count()
    return this.#missed
  }

  /** Sets the position. */
  reset(position = 0): void {
    this.#count()
    this.#position = position
  }

  /** Stops listening; the inputs stay open. */
  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe()
  }

  #count(): void {
    if (this.#waiting.length === 0) return
    const edges = this.#waiting.sort((one, other) => (one.ns < other.ns ? -1 : one.ns > other.ns ? 1 : 0))
    this.#waiting = []
    // set each line to the level before its first edge
    for (const { line, level } of edges) {
      if (this.#fresh.delete(line)) this.#levels[line] = 1 - level
    }
    for (const { line, level } of edges) {
      if (this.#levels[line] === level) {
        this.#missed++
        continue
      }
      this.#levels[line] = level
      // forward: a changes to another level than b's, or b changes to the level of a
      const { a, b } = this.#levels
      this.#direction = ((line === 'a') === (a !== b) ? this.#sign : -this.#sign) as -1 | 1
      this.#position += this.#direction
    }
  }
}
