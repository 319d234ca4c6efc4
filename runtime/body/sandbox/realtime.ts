/**
 * A program gets the priority that the board gives its programs when it is to hold the hardware, and no sooner (HANDOVER
 * 4.10; test/runtime/realtime.test.ts).
 */
import { readdirSync } from 'node:fs'
import { loadSystem } from '../../../drivers/owner/linux/system.ts'

/** sched(7) */
const SCHED_FIFO = 1
/** Threads that began while the others were raised are raised by the next look: each inherits from one of those. */
const LOOKS = 5

let setScheduler: ((...args: (number | Uint8Array)[]) => number) | undefined

/**
 * Puts every thread of these processes under SCHED_FIFO (sched_setscheduler(2)); those that have ended are passed over.
 *
 * @param priority 1 to 99
 * @throws with `code` EPERM where that is not allowed, `unsupported` where there is no koffi
 */
export function raise(pids: readonly number[], priority: number): void {
  setScheduler ??= loadSystem().bind('sched_setscheduler', 'int', ['int', 'int', 'void*'])
  // struct sched_param
  const parameters = new Uint8Array(Int32Array.of(priority).buffer)
  const raised = new Set<number>()
  for (let look = 0; look < LOOKS; look++) {
    const found = pids.flatMap(threadsOf).filter((thread) => !raised.has(thread))
    if (found.length === 0) return
    for (const thread of found) {
      raised.add(thread)
      try {
        setScheduler(thread, SCHED_FIFO, parameters)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
      }
    }
  }
}

function threadsOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).map(Number)
  } catch {
    return []
  }
}
