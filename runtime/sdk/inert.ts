/** The gate of a process that only describes programs: it never opens (HANDOVER 13.1). */
import { installGate } from './effects.ts'
import { Gate } from './gate.ts'

/** Descriptors below `ownFds` belong to the runtime. */
export function closedGate(ownFds: number): Gate {
  const gate = new Gate('loading')
  installGate(gate, ownFds)
  return gate
}
