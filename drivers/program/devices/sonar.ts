/**
 * Invariant: a distance comes from the times of two edges of one echo, as the kernel saw them, and from nothing else.
 *
 * HC-SR04 and its kin: a pulse on the trigger of at least 10 us, at whose end the sensor sends; the echo line is then
 * high for as long as the sound was on its way.
 */
import type { Edge, Input, Output } from '../handle.ts'

export interface SonarOptions {
  /** From one measurement to the next. Default 60: an echo of the last one has died away. */
  intervalMs?: number
  /** degrees C, of the air. Default 20. */
  temperature?: number
  /** What is farther counts as nothing. Default 4000. */
  maxMm?: number
}

/** An ultrasonic distance sensor on two lines; the echo's input needs `edges` "both" and no debouncing. */
export class Sonar {
  readonly #trigger: Output
  readonly #intervalSeconds: number
  readonly #mmPerNs: number
  readonly #maxMm: number
  readonly #unsubscribe: () => void
  #since = Number.POSITIVE_INFINITY
  #rise: Edge | null = null
  #heard: number | null = null
  #mm: number | null = null

  constructor(trigger: Output, echo: Input, options: SonarOptions = {}) {
    const { intervalMs = 60, temperature = 20, maxMm = 4000 } = options
    this.#trigger = trigger
    this.#intervalSeconds = intervalMs / 1000
    // 331.3 m/s at 0 degrees C, and 0.606 m/s more for each degree; there and back
    this.#mmPerNs = (331.3 + 0.606 * temperature) / 1e6 / 2
    this.#maxMm = maxMm
    this.#unsubscribe = echo.onEdge((edge) => this.#take(edge))
  }

  /** mm, by the last measurement; null when it saw nothing, and before the first. */
  get mm(): number | null {
    return this.#mm
  }

  /** Triggers when it is time; the pulse ends with the next call. With the seconds since the last one. */
  tick(dt: number): void {
    this.#since += dt
    if (this.#trigger.value === 1) {
      this.#trigger.write(0)
    } else if (this.#since >= this.#intervalSeconds) {
      this.#mm = this.#heard
      this.#heard = null
      this.#since = 0
      this.#trigger.write(1)
    }
  }

  /** Stops listening; the handles stay open. */
  close(): void {
    this.#unsubscribe()
  }

  #take(edge: Edge): void {
    const rise = this.#rise
    this.#rise = edge.level === 1 ? edge : null
    // an edge between was lost, or the echo began before this program
    if (edge.level === 1 || rise === null || edge.seqno !== rise.seqno + 1) return
    const mm = Number(edge.ns - rise.ns) * this.#mmPerNs
    this.#heard = mm <= this.#maxMm ? mm : null
    this.#mm = this.#heard
  }
}
