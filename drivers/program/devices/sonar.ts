/**
 * An ultrasonic distance sensor, HC-SR04 or similar. After a pulse of at least 10 us on the trigger it sends a sound,
 * and the echo line is high for as long as the sound travels.
 *
 * The distance comes from the kernel's times of the two edges of an echo, so it does not depend on when the program
 * runs.
 */
import type { Edge, Input, Output } from '../handle.ts'

export interface SonarOptions {
  /** Time from one measurement to the next. Default 60: earlier echoes have died away by then. */
  intervalMs?: number
  /** Air temperature in degrees C. Default 20. */
  temperature?: number
  /** Farther echoes are ignored. Default 4000. */
  maxMm?: number
}

/** An ultrasonic sensor on two lines. The echo input needs `edges` "both" and no debouncing. */
export class Sonar {
  readonly #trigger: Output
  readonly #intervalSeconds: number
  readonly #mmPerNs: number
  readonly #maxMm: number
  readonly #unsubscribe: () => void
  #since = Number.POSITIVE_INFINITY
  #rise: Edge | null = null
  #echoMm: number | null = null
  #mm: number | null = null

  constructor(trigger: Output, echo: Input, options: SonarOptions = {}) {
    const { intervalMs = 60, temperature = 20, maxMm = 4000 } = options
    this.#trigger = trigger
    this.#intervalSeconds = intervalMs / 1000
    // 331.3 m/s at 0 degrees C, and 0.606 m/s more for each degree; halved, as the sound goes there and back
    this.#mmPerNs = (331.3 + 0.606 * temperature) / 1e6 / 2
    this.#maxMm = maxMm
    this.#unsubscribe = echo.onEdge((edge) => this.#take(edge))
  }

  /** mm, from the last measurement; null when there was no echo, and before the first measurement. */
  get mm(): number | null {
    return this.#mm
  }

  /**
   * Starts a measurement when one is due; the trigger pulse ends with the next call. `dt`: seconds since the last call.
   */
  tick(dt: number): void {
    this.#since += dt
    if (this.#trigger.value === 1) {
      this.#trigger.write(0)
    } else if (this.#since >= this.#intervalSeconds) {
      this.#mm = this.#echoMm
      this.#echoMm = null
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
    // an edge was lost in between, or the echo began before this program
    if (edge.level === 1 || rise === null || edge.seqno !== rise.seqno + 1) return
    const mm = Number(edge.ns - rise.ns) * this.#mmPerNs
    this.#echoMm = mm <= this.#maxMm ? mm : null
    this.#mm = this.#echoMm
  }
}
