/** What a program's SDK is given by what it runs in. */
import type { BrokerPort } from '../../drivers/program/broker/index.ts'
import type { System } from '../../drivers/program/inherit/index.ts'
import type { GatePort } from './gate.ts'
import type { Mailbox } from './hooks.ts'
import type { SocketsPort } from './sockets.ts'
import type { Pace } from './ticker.ts'
import type { Entered, FromProgram, Init, ToProgram } from './wire.ts'

/** The files of a program: of a process, descriptors of its table (HANDOVER 3.3). */
export interface ProgramFiles {
  readonly outbox: number
  readonly inbox: number
  readonly predecessor: number
  readonly scratch: number
  readonly handoverOut: Mailbox
  readonly handoverIn: Mailbox
}

/** What the loader provides (loader.ts), or a simulation. */
export interface Host {
  readonly init: Init
  /** Present when a grant needs it. */
  readonly system: System | null
  readonly places: ProgramFiles
  /** What the program does to the world goes through it. */
  readonly gate: GatePort
  /** Its servers and connections; absent where it has none. */
  readonly sockets?: SocketsPort
  /** Absent: the broker's socket in the table. */
  readonly broker?: BrokerPort
  /** Absent: the event loop. */
  readonly pace?: Pace
  send(message: FromProgram): void
  /** How far the first rehearsal has come. */
  enter?(place: Entered): void
  /** An error with its place in the author's files, in one line and with its calls. Absent: an older runtime. */
  explain?(error: unknown): { text: string; stack: string }
  /** Collects garbage now, so that it is not done in the gap. */
  collect(): void
  listen(onMessage: (message: ToProgram) => void): void
  /** What the program throws outside of any call of ours. */
  onUncaught(caught: (error: unknown) => void): void
  /** Nothing of the program runs after it. */
  exit(status: number): void
}
