/**
 * Reports the body to systemd: ready, status, watchdog, stopping (HANDOVER 16). Runs in the body's event loop, so a body whose
 * loop does not turn sends nothing.
 */
import type { NotifySocket } from './notifysocket.ts'

/** Time between two looks at the body, in ms; sooner where the watchdog asks for more. */
const LOOK_MS = 1000
/** How many messages fit into the time of the watchdog. */
const FEEDS = 3
/** A start that goes on is given this long from each look on, in ms. Before MEDULLA_TIME_SCALE. */
const EXTEND_MS = 30_000

export interface ServiceOptions {
  readonly socket: NotifySocket
  readonly watchdogMs: number | null
  readonly scale: number
  /** One line on what runs. */
  status(): string
  /** What the body fails to do, or null. */
  sickness(): string | null
  note(level: 'info' | 'warn' | 'error', text: string): void
}

export class Service {
  readonly #options: ServiceOptions
  readonly #timer: NodeJS.Timeout
  #state: 'starting' | 'ready' | 'stopping' = 'starting'
  /** What was sent last; null: nothing yet, or systemd did not take it. */
  #status: string | null = null
  #isReadySent = false
  #sickness: string | null = null

  constructor(options: ServiceOptions) {
    this.#options = options
    const { watchdogMs } = options
    this.#timer = setInterval(() => this.#look(), Math.min(LOOK_MS, (watchdogMs ?? Number.POSITIVE_INFINITY) / FEEDS))
    this.#look()
  }

  /** The robot can be reached, and the programs of its slots run or were given up. */
  ready(): void {
    if (this.#state === 'starting') this.#state = 'ready'
    this.#look()
  }

  stopping(): void {
    this.#state = 'stopping'
    this.#options.socket.send({ stopping: true, status: 'stopping the programs, driving the safe levels' })
  }

  /** The body is about to be silent for a moment: systemd counts from now on. */
  feed(): void {
    this.#look()
  }

  close(): void {
    clearInterval(this.#timer)
  }

  #look(): void {
    const { socket, scale } = this.#options
    const sick = this.#options.sickness()
    if (sick !== this.#sickness) {
      this.#sickness = sick
      if (sick === null) this.#options.note('info', 'the watchdog is fed again')
      else this.#options.note('error', `the watchdog is not fed: ${sick}`)
    }
    // While it stops, TimeoutStopSec= is the limit.
    if (this.#state === 'stopping' || sick !== null) return
    const alive = { alive: true }
    if (this.#state === 'starting') {
      const status = `starting; ${this.#options.status()}`
      if (socket.send({ ...alive, extendMs: EXTEND_MS * scale, ...this.#changed(status) })) this.#status = status
      return
    }
    const status = this.#options.status()
    const ready = this.#isReadySent ? {} : { ready: true }
    if (!socket.send({ ...alive, ...ready, ...this.#changed(status) })) return
    this.#isReadySent = true
    this.#status = status
  }

  #changed(status: string): { status?: string } {
    return status === this.#status ? {} : { status }
  }
}
