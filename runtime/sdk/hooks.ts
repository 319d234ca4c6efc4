/** The types by which the parts of a running program know each other. */
import type { Handle } from '../../drivers/program/handle.ts'
import type { ChannelsPort } from './messages.ts'
import type { Params, ParamValue } from './params.ts'
import type { Needs, RobotSpec, Why } from './spec.ts'
import type { TickerHooks } from './ticker.ts'
import type { Init, LogLevel } from './wire.ts'

export type AnySpec = RobotSpec<Needs, unknown, Params>

/** What an instance reaches besides its handles. In a rehearsal these functions do nothing. */
export interface StageHooks extends TickerHooks {
  /** Why `run` is called. */
  why(): Why | 'rehearsal'
  log(text: string, level: LogLevel): void
  /** The last hold was released. */
  released(): void
  /** Absent: nobody is at the other end of a channel. */
  readonly channels?: ChannelsPort | undefined
  /** An error in one line, with its place in the author's files if known. */
  textOf(error: unknown): string
}

/** What an instance reads of its stage. */
export interface OnStage {
  readonly spec: AnySpec
  readonly init: Init
  readonly handles: ReadonlyMap<string, Handle>
  readonly params: Readonly<Record<string, ParamValue>>
}

/** A file for handover records: a FIFO (position null), or a position in the scratch file. */
export interface Mailbox {
  readonly fd: number
  readonly position: number | null
}
