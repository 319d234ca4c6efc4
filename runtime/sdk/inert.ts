/** The gate of a process in which a program is described, and nothing of it ever begins (HANDOVER 13.1). */
import { installGate } from './effects.ts'
import { Gate } from './gate.ts'

/** The descriptors below `ownFds` are not the program's. */
export function closedGate(ownFds: number): Gate {
  const gate = new Gate('loading')
  installGate(gate, ownFds)
  return gate
}
