/** The types of what authors give to `robot()`, and the check of it. */

import { nearest } from '../../drivers/board/nearest.ts'
import { HANDLE_KINDS, type HandleByKind, type SupportedKind } from '../../drivers/program/handle.ts'
import { type ConfigNames, type ConfigValues, configNames } from './config.ts'
import type { Channel } from './messages.ts'
import { type Declaration, declare, type Params, type ParamValues } from './params.ts'
import type { TickFn } from './ticker.ts'
import type { LogLevel } from './wire.ts'

/** Handle names to kinds: `{ led: 'output' }`. */
export type Needs = Readonly<Record<string, SupportedKind>>
export type Handles<N extends Needs> = { readonly [K in keyof N]: HandleByKind[N[K]] }

/**
 * State that survives swaps and crashes: a JSON object, or one Uint8Array (up to 64 MiB).
 * `initial` makes the first state. `migrate.up` turns the state of an older version into this version's, `migrate.down` turns
 * this version's into an older version's, for a rollback. Each throws when it cannot.
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
 * Why a program drives the hardware. `start`: it was pushed to an empty slot, started by `medulla start`, or the robot was
 * switched on. `restart`: it crashed. `swap`: it replaced another program. `rollback`: its replacement was undone.
 */
export type Why = 'start' | 'restart' | 'swap' | 'rollback'

/** Ends what `onLive` began: closes connections, says goodbye. */
export type End = () => unknown
/** Returns its end, a promise of its end, or nothing. */
export type OnLive = (why: Why) => unknown

/** What `run` receives besides the handles, under their own names. */
export interface Context<S, P extends Params = Params, C extends ConfigNames = readonly string[]> {
  /** The state object: change it in place. */
  readonly state: S
  /**
   * The declared parameters as they are now: `medulla param` changes them while the program runs, between two ticks.
   * Read them where they are used (`params.kp`); a program cannot write them.
   */
  readonly params: ParamValues<P>
  /**
   * The declared config values of the robot, as they were when the program was started; also in rehearsals. While a program
   * is built, each value is an empty text.
   */
  readonly config: ConfigValues<C>
  /**
   * About this program: its name, version and slot, whether it took over from another program, and its data folder. `why` is
   * `rehearsal` when `run` is called on dummy handles.
   */
  readonly info: {
    readonly program: string
    readonly version: string
    readonly slot: string
    readonly tookOver: boolean
    readonly why: Why | 'rehearsal'
    /**
     * Path of a folder for data that is not `state`. It belongs to the slot and stays over swaps, crashes and restarts. It may
     * hold `limits.dataMb` of the board file; a program whose folder stays above that is ended.
     */
    readonly dataDir: string
  }
  /**
   * Calls `fn` every `ms` (0.1 and up) with the seconds since its last call. After a swap the predecessor's deadlines
   * go on. A missed deadline is skipped, not made up for. An exception or a rejected promise ends the program. When `every`
   * itself is called late, as after an `await`, `fn` is first called one period later.
   */
  every(ms: number, fn: TickFn): void
  /**
   * Writes to the program's log, as console.log does. Of two values the second is the level, where it is `debug`, `info`,
   * `warn` or `error`: `log('too close', 'warn')`.
   */
  log(value: unknown, level: LogLevel): void
  log(...values: unknown[]): void
  /** `check` is called at every heartbeat. False or a text means unhealthy, which undoes a swap that is in its trial. */
  health(check: () => boolean | string | undefined): void
  /** No swap until the returned function is called: `const release = hold('arm is moving')`. */
  hold(reason: string): () => void
  /**
   * For servers, clients and helper processes. `fn` is called once the program drives the hardware, in a separate turn of the
   * event loop, and never in a rehearsal; an exception ends the program. The function that `fn` returns is called, and awaited
   * for half of `timing.yieldMs`, before another program takes over, and at a requested stop. When a swap is undone and the
   * program goes on, `fn` is called again.
   */
  onLive(fn: OnLive): void
  /**
   * A message channel with a laptop, by name: `channel('tune')` here, `robot.channel('tune')` of `medulla/client` there. It stays open
   * over swaps, without a message lost or doubled. At most 16 names.
   */
  channel(name: string): Channel
  /** Called at a requested stop, with the handles still live, and awaited for 0.8 s. */
  onStop(fn: () => unknown): void
}

export interface RobotSpec<N extends Needs, S, P extends Params, C extends ConfigNames = ConfigNames> {
  readonly needs: N
  readonly state?: StateSpec<S>
  /**
   * Numbers with their range, booleans and choices that people may change while the program runs:
   * `{ kp: { value: 1.2, min: 0, max: 5 }, mode: { value: 'slow', choices: ['slow', 'fast'] }, armed: false }`.
   * A set value stays over swaps, crashes and restarts, until it is reset.
   */
  readonly params?: P
  /**
   * Names of config values, which the robot keeps for its programs, also secrets: `['MQTT_URL', 'TOKEN']`. `medulla config
   * set TOKEN` sets one. A program does not start while one of its names has no value.
   */
  readonly config?: C
  /** May be async. An exception or a rejection ends the program. */
  run(context: Handles<N> & Context<S, P, C>): unknown
}

const RESERVED = ['state', 'params', 'config', 'info', 'every', 'log', 'health', 'hold', 'onLive', 'onStop', 'channel']

const HANDLE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

/** A mistake in the arguments of `robot()`; `mistake` is the wrong word in the author's file. */
export class SpecError extends TypeError {
  readonly mistake: string
  constructor(mistake: string, message: string) {
    super(message)
    this.mistake = mistake
  }
}

/** `; did you mean 'needs'?`, or the list of known words. */
export function suggestion(word: string, known: readonly string[]): string {
  const near = nearest(word, known)
  return near === null ? `, expected one of ${known.join(', ')}` : `; did you mean '${near}'?`
}

/** Throws SpecError with what to change. `medulla build` shows the message at the author's line. */
export function checkSpec<N extends Needs, S, P extends Params>(spec: RobotSpec<N, S, P>): void {
  const { needs, state, params, config, run } = Object(spec) as Record<string, unknown>
  if (run === undefined && needs === undefined && Object.values(Object(spec)).every(isKind)) {
    throw new SpecError('robot', "run is missing, expected robot({ led: 'output' }, ({ led }) => { … })")
  }
  checkKeys('robot()', spec, ['needs', 'state', 'params', 'config', 'run'])
  checkType('needs', needs, 'object', "{ led: 'output' }")
  for (const [name, kind] of Object.entries(needs as Needs)) {
    if (typeof kind === 'function') {
      throw new SpecError('robot', 'robot(): one object with needs and run, or needs and a function, not both')
    }
    if (RESERVED.includes(name) || !HANDLE_NAME.test(name)) {
      const why = HANDLE_NAME.test(name) ? 'that name is taken by the runtime' : 'letters, digits, ., - and _'
      throw new SpecError(name, `a handle cannot be called ${name}: ${why}`)
    }
    if (!isKind(kind)) {
      throw new SpecError(String(kind), `${name}: there is no kind '${kind}'${suggestion(String(kind), HANDLE_KINDS)}`)
    }
  }
  if (state !== undefined) checkState(state as Partial<StateSpec<unknown>>)
  try {
    declare(params as Params)
  } catch (error) {
    const { message } = error as TypeError
    throw new SpecError(/^params\.([\w-]+)/.exec(message)?.[1] ?? 'params', message)
  }
  if (config !== undefined) checkConfig(config)
  checkType('run', run, 'function', '({ led }) => { … }')
}

function checkConfig(names: unknown): void {
  try {
    configNames(names)
  } catch (error) {
    throw new SpecError('config', (error as TypeError).message)
  }
}

function checkState(state: Partial<StateSpec<unknown>>): void {
  checkKeys('state', state, ['version', 'initial', 'migrate'])
  const { version, initial, migrate = {} } = state
  if (!(Number.isSafeInteger(version) && (version as number) >= 1)) {
    throw new SpecError('version', `state.version: expected a whole number from 1, got ${version}`)
  }
  checkType('state.initial', initial, 'function', '() => ({ n: 0 })')
  checkKeys('state.migrate', migrate, ['up', 'down'])
}

function checkType(place: string, value: unknown, type: 'object' | 'function', example: string): void {
  if (typeof value === type && value !== null) return
  const word = place.split('.').at(-1) as string
  throw new SpecError(
    word,
    `${place}: expected ${type === 'object' ? 'an' : 'a'} ${type} like ${example}, got ${value}`,
  )
}

function checkKeys(of: string, given: object, known: readonly string[]): void {
  const odd = Object.keys(Object(given)).find((key) => !known.includes(key))
  if (odd !== undefined) throw new SpecError(odd, `${of} has no '${odd}'${suggestion(odd, known)}`)
}

const isKind = (kind: unknown): boolean => (HANDLE_KINDS as readonly unknown[]).includes(kind)

/** What `medulla build` writes into the manifest. */
export interface Description {
  needs: Record<string, string>
  ratesMs: number[]
  state: { version: number; encoding: 'json' | 'bytes' } | null
  params: Record<string, Declaration>
  config: string[]
  wire: number
  sdk: string
}
