/** The line that `systemctl status medulla` shows. It holds no text of a program but its name and version. */
import type { SlotStatus, StatusReport } from '../../../deploy/shared/api.ts'

export function statusLine(
  { estop, pairing, slots }: Pick<StatusReport, 'estop' | 'pairing' | 'slots'>,
  isServing: boolean,
): string {
  const stopped = [
    ...(estop === null ? [] : ['emergency stop']),
    ...(isServing ? [] : ['no endpoint']),
    ...(pairing === undefined ? [] : ['pairing window open']),
  ]
  const all = slots.map(slotText)
  return [...stopped, ...(all.length > 0 ? all : ['no program yet'])].join('; ')
}

function slotText({ slot, state, program, version, waits }: SlotStatus): string {
  const what = program === undefined ? '' : `${program} ${version ?? ''} `
  return `${slot}: ${what}${waits === undefined ? state : 'waiting'}`
}
