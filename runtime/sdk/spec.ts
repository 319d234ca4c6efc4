/** Invariant: what a program asks for is fixed by one call of `robot()`, before anything runs. */
import { HANDLE_KINDS, type HandleByKind, type SupportedKind } from '../../drivers/handle.ts'
import { type Declaration, declare, type Params, type ParamValues } from './params.ts'
import type { TickFn } from './ticker.ts'
import type { LogLevel } from './wire.ts'

/** Handle names to kinds: `{ led: 'output' }`. */
export type Needs = Readonly<Record<string, SupportedKind>>
export type Handles<N extends Needs> = { readonly [K in keyof N]: HandleByKind[N[K]] }

/**
 * State that survives swaps and crashes: a JSON object, or one Uint8Array (up to 64 MiB).
 * `initial` makes the first one. `migrate.up` turns an older version's state into this one's, `migrate.down` turns this
 * one's into an older version's, for a rollback; each throws when it cannot.
 */
export interface StateSpec<S> {
  readonly version: number
  initial(): S
  readonly migrate?: {
    up?(old: unknown, fromVersion: number): S
    down?(now: S, toVersion: number): unknown
  }
}

/**
 * Why a program drives the hardware: it was started (pushed to an empty slot, `medulla start`, the robot was switched on),
 * started again after a crash, it replaced another one, or it goes on because the one that had replaced it was undone.
 */
export type Why = 'start' | 'restart' | 'swap' | 'rollback'

/** Ends what `onLive` began: closes, says goodbye. */
export type End = () => unknown
/** Gives back its end, or a promise of it, or nothing. */
export type OnLive = (why: Why) => unknown

/** What `run` receives besides the handles, under their own names. */
export interface Context<S, P extends Params = Params> {
  /** The state object: change it in place. */
  readonly state: S
  /**
   * The declared parameters as they are now: `medulla param` changes them while the program runs, between two ticks.
   * Read them where they are used (`params.kp`); a program cannot write them.
   */
  readonly params: ParamValues<P>
  /**
   * What runs: program name, version, slot, and whether it took over from another. `why` is `rehearsal` where `run` is called
   * on dummy handles.
   */
  readonly info: {
    readonly program: string
    readonly version: string
    readonly slot: string
    readonly tookOver: boolean
    readonly why: Why | 'rehearsal'
  }
  /**
   * Calls `fn` every `ms` (0.1 and up) with the seconds since its last call. After a swap the predecessor's deadlines
   * go on. A missed deadline is skipped, not made up for. An exception, and a promise that rejects, ends the program. Called
   * late, as after an `await`, the first call is a period from now.
   */
  every(ms: number, fn: TickFn): void
  /** Writes a line to the program's log. */
  log(text: string, level?: LogLevel): void
  /** Asked at every heartbeat; false or a text means unhealthy, which undoes a swap in its trial. */
  health(check: () => boolean | string | undefined): void
  /** No swap until the returned function is called: `const release = hold('arm is moving')`. */
  hold(reason: string): () => void
  /**
   * For what is not control: servers, clients, helper processes. `fn` is called when this program drives the hardware, in a
   * turn of the event loop of its own, and never in a rehearsal; what it throws ends the program. The function that it gives
   * back is called, and awaited for half of `timing.yieldMs`, before another program takes over, and at a requested stop. When
   * a swap is undone and the program goes on, `fn` is called again.
   */
  onLive(fn: OnLive): void
  /** Called at a requested stop, with the handles still live, and awaited for 0.8 s. */
  onStop(fn: () => unknown): void
}

export interface RobotSpec<N extends Needs, S, P extends Params> {
  readonly needs: N
  readonly state?: StateSpec<S>
  /**
   * Numbers with their range, booleans and choices that people may change while the program runs:
   * `{ kp: { value: 1.2, min: 0, max: 5 }, mode: { value: 'slow', choices: ['slow', 'fast'] }, armed: false }`.
   * What was set stays over swaps, crashes and restarts, until it is reset.
   */
  readonly params?: P
  /** One that is async and rejects ends the program, as one that throws. */
  run(context: Handles<N> & Context<S, P>): unknown
}

const RESERVED = ['state', 'params', 'info', 'every', 'log', 'health', 'hold', 'onLive', 'onStop']

/** Throws TypeError with what to change; `build` shows it before anything leaves the laptop. */
export function checkSpec<N extends Needs, S, P extends Params>(spec: RobotSpec<N, S, P>): void {
  if (typeof spec.needs !== 'object' || spec.needs === null) {
    throw new TypeError(`needs: expected an object like { led: 'output' }, got ${String(spec.needs)}`)
  }
  for (const [name, kind] of Object.entries(spec.needs)) {
    if (RESERVED.includes(name))
      throw new TypeError(`a handle cannot be called ${name}: that name is taken by the runtime`)
    if (!HANDLE_KINDS.includes(kind))
      throw new TypeError(`${name}: expected one of ${HANDLE_KINDS.join(', ')}, got ${String(kind)}`)
  }
  const version = spec.state?.version
  if (version !== undefined && !(Number.isSafeInteger(version) && version >= 1)) {
    throw new TypeError(`state.version: expected a whole number from 1, got ${String(version)}`)
  }
  declare(spec.params)
  if (typeof spec.run !== 'function') throw new TypeError('run: expected a function')
}

/** What `medulla build` writes into the manifest. */
export interface Description {
  needs: Record<string, string>
  ratesMs: number[]
  state: { version: number; encoding: 'json' | 'bytes' } | null
  params: Record<string, Declaration>
  wire: number
  sdk: string
}
