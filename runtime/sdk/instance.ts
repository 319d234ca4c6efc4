/**
 * One call of the program's `run`, with its schedule, holds and state. The live instance and those of rehearsals are made
 * by the same code.
 */
import { bindTo, withHandles } from '../../drivers/program/granted.ts'
import { type Handle, isDriven, type LastEdge } from '../../drivers/program/handle.ts'
import { lastEdge } from '../../drivers/program/lastedge.ts'
import { configView } from './config.ts'
import type { AnySpec, OnStage, StageHooks } from './hooks.ts'
import { logged } from './log.ts'
import { inertChannel } from './messages.ts'
import type { Context, OnLive } from './spec.ts'
import { encodeState } from './state.ts'
import { Ticker, watch } from './ticker.ts'
import type { Meta } from './wire.ts'

export class Instance {
  readonly ticker: Ticker
  readonly holds = new Map<symbol, string>()
  readonly stops: (() => unknown)[] = []
  readonly onLive: OnLive[] = []
  readonly state: unknown
  readonly #checks: (() => boolean | string | undefined)[] = []
  readonly #spec: AnySpec
  readonly #stage: OnStage
  readonly #hooks: StageHooks

  constructor(stage: OnStage, hooks: StageHooks, state: unknown) {
    this.#spec = stage.spec
    this.#stage = stage
    this.#hooks = hooks
    this.state = state
    this.ticker = new Ticker(hooks)
  }

  /** Calls `run` with its context, which `wrap` may replace. Throws what `run` throws. */
  begin(tookOver: boolean, wrap = (context: object): object => context): void {
    const { init, params, handles } = this.#stage
    const context: Context<unknown> = {
      state: this.state,
      params: params as Context<unknown>['params'],
      config: configView(this.#spec.config, init.config ?? {}),
      info: {
        program: init.program,
        version: init.version,
        slot: init.slot,
        tookOver,
        why: this.#hooks.why(),
        dataDir: init.dataDir,
      },
      every: (ms, fn) => this.ticker.add(ms, bindTo(handles, fn)),
      log: (...values: unknown[]) => {
        const { text, level } = logged(values)
        this.#hooks.log(text, level)
      },
      health: (check) => this.#checks.push(check),
      hold: (reason) => this.#hold(String(reason)),
      onLive: (fn) => this.onLive.push(bindTo(handles, fn)),
      onStop: (fn) => this.stops.push(bindTo(handles, fn)),
      channel: (name) => this.#hooks.channels?.open(name) ?? inertChannel,
    }
    const argument = wrap(Object.assign(Object.fromEntries(handles), context))
    watch(
      withHandles(handles, () => this.#spec.run(argument as never)),
      this.#hooks.failed,
    )
  }

  #hold(reason: string): () => void {
    const key = Symbol(reason)
    this.holds.set(key, reason)
    return () => {
      if (this.holds.delete(key) && this.holds.size === 0) this.#hooks.released()
    }
  }

  /** null when the program is healthy, else the reason. */
  unhealthy(): string | null {
    for (const check of this.#checks) {
      try {
        const answer = check()
        if (answer === false) return 'the program says that it is not healthy'
        if (typeof answer === 'string') return answer
      } catch (error) {
        return `the health check failed: ${this.#hooks.textOf(error)}`
      }
    }
    return null
  }

  encode(seqnos: Record<string, number>): { bytes: Uint8Array; meta: Meta } {
    const { bytes, encoding } = encodeState(this.state)
    const values: Record<string, number> = {}
    const edges: Record<string, LastEdge> = {}
    for (const [name, handle] of this.#stage.handles) {
      if (isDriven(handle.kind)) values[name] = (handle as Handle & { value: number }).value
      const edge = handle.kind === 'input' ? lastEdge(handle) : null
      if (edge !== null) edges[name] = edge
    }
    const stateVersion = this.#spec.state?.version ?? 0
    return { bytes, meta: { stateVersion, encoding, values, seqnos, schedule: this.ticker.schedule(), edges } }
  }
}
