/** What the parts of a running program know of each other: types alone. */
import type { Handle } from '../../drivers/program/handle.ts'
import type { Params, ParamValue } from './params.ts'
import type { Needs, RobotSpec, Why } from './spec.ts'
import type { TickerHooks } from './ticker.ts'
import type { Init, LogLevel } from './wire.ts'

export type AnySpec = RobotSpec<Needs, unknown, Params>

/** What an instance can reach besides its handles; a rehearsal's reaches nothing. */
export interface StageHooks extends TickerHooks {
  /** Why `run` is called. */
  why(): Why | 'rehearsal'
  log(text: string, level: LogLevel): void
  /** A hold was released. */
  released(): void
  /** An error in one line, with its place where that is known. */
  textOf(error: unknown): string
}

/** The stage that an instance is on. */
export interface OnStage {
  readonly spec: AnySpec
  readonly init: Init
  readonly handles: ReadonlyMap<string, Handle>
  readonly params: Readonly<Record<string, ParamValue>>
}

/** Where records go and come from: a FIFO (position null), or a place in the scratch file. */
export interface Mailbox {
  readonly fd: number
  readonly position: number | null
}
