/**
 * Invariant: an instance is one call of the program's `run`, with its own handles, lease, schedule and state; the live
 * one and every rehearsal are made by the same code.
 */
import type { Handle, Lease } from '../../drivers/handle.ts'
import type { Context, Needs, Params, RobotSpec } from './spec.ts'
import { encodeState, messageOf } from './state.ts'
import { Ticker } from './ticker.ts'
import type { Init, LogLevel, Meta } from './wire.ts'

/** How an instance reaches the outside; a rehearsal's reaches nothing. */
export interface Surroundings {
  init: Pick<Init, 'program' | 'version' | 'slot'>
  handles: ReadonlyMap<string, Handle>
  lease: Lease
  params: Record<string, unknown>
  log(text: string, level: LogLevel): void
  /** Runs between ticks; false stops the ticker. */
  between(): boolean
  /** A hold was released. */
  released(): void
}

type AnySpec = RobotSpec<Needs, unknown, Params>

export class Instance {
  readonly ticker: Ticker
  readonly lease: Lease
  readonly handles: ReadonlyMap<string, Handle>
  readonly holds = new Map<symbol, string>()
  readonly stops: (() => void)[] = []
  state: unknown
  #checks: (() => boolean | string | undefined)[] = []
  #spec: AnySpec
  #around: Surroundings

  constructor(spec: AnySpec, around: Surroundings, state: unknown) {
    this.#spec = spec
    this.#around = around
    this.lease = around.lease
    this.handles = around.handles
    this.state = state
    this.ticker = new Ticker(around.between)
  }

  /** Calls `run` once; throws what it throws. */
  begin(tookOver: boolean): void {
    const { init, params, log } = this.#around
    const context: Context<unknown> = {
      state: this.state,
      params: params as Context<unknown>['params'],
      info: { program: init.program, version: init.version, slot: init.slot, tookOver },
      every: (ms, fn) => this.ticker.add(ms, fn),
      log: (text, level = 'info') => log(String(text), level),
      health: (check) => this.#checks.push(check),
      hold: (reason) => this.#hold(reason),
      onStop: (fn) => this.stops.push(fn),
    }
    this.#spec.run(Object.assign(Object.fromEntries(this.handles), context) as never)
  }

  #hold(reason: string): () => void {
    const key = Symbol(reason)
    this.holds.set(key, reason)
    return () => {
      if (this.holds.delete(key) && this.holds.size === 0) this.#around.released()
    }
  }

  /** null when healthy, else the reason. */
  unhealthy(): string | null {
    for (const check of this.#checks) {
      try {
        const answer = check()
        if (answer === false) return 'the program says that it is not healthy'
        if (typeof answer === 'string') return answer
      } catch (error) {
        return `the health check failed: ${messageOf(error)}`
      }
    }
    return null
  }

  encode(seqnos: Record<string, number>): { bytes: Uint8Array; meta: Meta } {
    const { bytes, encoding } = encodeState(this.state)
    const values: Record<string, number> = {}
    for (const [name, handle] of this.handles) {
      if (handle.kind === 'output' || handle.kind === 'pwm') values[name] = (handle as Handle & { value: number }).value
    }
    const stateVersion = this.#spec.state?.version ?? 0
    return { bytes, meta: { stateVersion, encoding, values, seqnos, schedule: this.ticker.schedule() } }
  }
}
