/**
 * The effects gate in a process that simulates: programs and their tests share it, so it is always open, and only what belongs
 * to a rehearsal does not pass (HANDOVER 13.3).
 */
import { installGate } from '../sdk/effects.ts'
import { Gate, type GatePort } from '../sdk/gate.ts'

const gate = new Gate('open')
let isThere = false

/** Of one program. */
export function gatePort(): GatePort {
  if (!isThere) installGate(gate, 0)
  isThere = true
  const nothing = () => {}
  return {
    rehearse: (fn) => gate.rehearse(fn),
    enter: nothing,
    open: nothing,
    close: nothing,
    renew: nothing,
    act: (fn) => fn(),
  }
}

/** Whatever runs now is a rehearsal, or came of one. */
export const inRehearsal = (): boolean => gate.round !== undefined
