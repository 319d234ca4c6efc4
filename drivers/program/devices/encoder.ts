/**
 * Invariant: each edge counts once, in the order of the times of both lines, whichever message came first.
 *
 * Edges of one line arrive in order, those of two lines need not: they wait until somebody asks, and are sorted then.
 */
import type { Edge, Input } from '../handle.ts'

export interface EncoderOptions {
  /** Where it stands, in counts: what the predecessor of this program counted. Default 0. */
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
  /** Lines of which no edge was heard yet: what was read there may already be the level after it. */
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

  /** Counts; they rise when the edges of `a` come before those of `b`. */
  get position(): number {
    this.#count()
    return this.#position
  }

  /** Of the last count: 1, -1, or 0 before the first. */
  get direction(): -1 | 0 | 1 {
    this.#count()
    return this.#direction
  }

  /** Edges that were lost: the position may be off by twice as many. */
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
    // so that each line is at the level before its first edge
    for (const { line, level } of edges) {
      if (this.#fresh.delete(line)) this.#levels[line] = 1 - level
    }
    for (const { line, level } of edges) {
      if (this.#levels[line] === level) {
        this.#missed++
        continue
      }
      this.#levels[line] = level
      // an edge of a to the other level than b's, or of b to that of a, is a step forward
      const { a, b } = this.#levels
      this.#direction = ((line === 'a') === (a !== b) ? this.#sign : -this.#sign) as -1 | 1
      this.#position += this.#direction
    }
  }
}
