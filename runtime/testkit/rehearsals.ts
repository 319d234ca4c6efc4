/**
 * The effects gate in a process that simulates. Programs and their tests share one process, so the gate is always open, and
 * only effects of rehearsals are dropped (HANDOVER 13.3).
 */
import { installGate } from '../sdk/effects.ts'
import { Gate, type GatePort } from '../sdk/gate.ts'

const gate = new Gate('open')
/** The part of the gate for code beside a program. */
export const rehearsalGate: Pick<Gate, 'round' | 'aside'> = gate
let isInstalled = false

/** The gate as one program sees it. */
export function gatePort(): GatePort {
  if (!isInstalled) installGate(gate, 0)
  isInstalled = true
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

/** Whether the running code belongs to a rehearsal, or to a callback that one caused. */
export const inRehearsal = (): boolean => gate.round !== undefined
