/** What the SDK in a program gets from the loader or from a simulation. */
import type { BrokerPort } from '../../drivers/program/broker/index.ts'
import type { System } from '../../drivers/program/inherit/index.ts'
import type { GatePort } from './gate.ts'
import type { Mailbox } from './hooks.ts'
import type { ChannelsPort } from './messages.ts'
import type { SocketsPort } from './sockets.ts'
import type { Pace } from './ticker.ts'
import type { Entered, FromProgram, Init, ToProgram } from './wire.ts'

/** The files of a program. In a process these are descriptors of its table (HANDOVER 3.3). */
export interface ProgramFiles {
  readonly outbox: number
  readonly inbox: number
  readonly predecessor: number
  readonly scratch: number
  readonly handoverOut: Mailbox
  readonly handoverIn: Mailbox
}

/** Provided by loader.ts, or by a simulation. */
export interface Host {
  readonly init: Init
  /** null when no grant uses ioctl(2). */
  readonly system: System | null
  readonly places: ProgramFiles
  /** All effects of the program pass through the gate. */
  readonly gate: GatePort
  /** The program's servers and connections; absent in a simulation. */
  readonly sockets?: SocketsPort
  /** Absent in an older runtime. */
  readonly channels?: ChannelsPort
  /** Absent: the broker's socket in the descriptor table. */
  readonly broker?: BrokerPort
  /** Absent: the event loop. */
  readonly pace?: Pace
  send(message: FromProgram): void
  /** Reports how far the first rehearsal has come. */
  enter?(place: Entered): void
  /** An error with its place in the author's files: in one line, and with its stack. Absent: an older runtime. */
  explain?(error: unknown): { text: string; stack: string }
  /** Collects garbage now, so that no collection runs in the gap. */
  collect(): void
  listen(onMessage: (message: ToProgram) => void): void
  /** Sets the handler of errors that the program throws outside of the SDK's calls. */
  onUncaught(caught: (error: unknown) => void): void
  /** Ends the program: no code of it runs after this call. */
  exit(status: number): void
}
