/** Invariant: what a program declared can be started any number of times, and each start is a program of its own. */
import type { GatePort } from './gate.ts'
import type { Host } from './host.ts'
import type { Description } from './spec.ts'

/** A program as `robot()` declared it, with the SDK that it was built with. */
export interface Declared {
  describe(): Description
  start(host: Host): void
}

/** The builder: hears what the program is about to do, then what it is. */
interface Describing {
  readonly gate: Rehearsing
  describe(description: Description): void
  enter?(place: 'run'): void
}

/** What `robot()` can find: a process of the runtime, the builder, or a simulation. */
export type Hosts = Host | Describing | { readonly gate: Rehearsing; declare(program: Declared): void }

type Rehearsing = Pick<GatePort, 'rehearse'>
