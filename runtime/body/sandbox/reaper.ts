/**
 * Waits for children that Node does not know: those of the runtime that this one replaced by execve(2) stay children of this
 * process (HANDOVER 18.3; waitpid(2)).
 */
import { loadSystem } from '../../../drivers/owner/linux/system.ts'

type Ended = (ending: string) => void

const waiting = new Map<number, Ended>()
let listening = false

/** Calls the listener once, when the child has ended. Without a listener the child is only waited for. */
export function onExit(pid: number, ended: Ended = () => {}): void {
  waiting.set(pid, ended)
  if (!listening) {
    listening = true
    process.on('SIGCHLD', look)
  }
  // It may have ended before.
  setImmediate(look)
}

function look(): void {
  const system = loadSystem()
  for (const [pid, ended] of [...waiting]) {
    const ending = system.reap(pid)
    if (ending === null) continue
    waiting.delete(pid)
    ended(ending)
  }
  if (waiting.size > 0) return
  process.off('SIGCHLD', look)
  listening = false
}
