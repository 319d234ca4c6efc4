/** What `robot()` may find as its host: the runtime, the builder or a simulation. */
import type { GatePort } from './gate.ts'
import type { Host } from './host.ts'
import type { Description } from './spec.ts'

/** A program as declared by `robot()`, with the SDK it was built with. Each `start` makes an independent program. */
export interface DeclaredProgram {
  describe(): Description
  start(host: Host): void
}

/** The builder, which only needs the description. */
interface Describing {
  readonly gate: Rehearsing
  describe(description: Description): void
  enter?(place: 'run'): void
}

/** A process of the runtime, the builder, or a simulation. */
export type AnyHost = Host | Describing | { readonly gate: Rehearsing; declare(program: DeclaredProgram): void }

type Rehearsing = Pick<GatePort, 'rehearse'>
