/**
 * Raises a program to the `realtime` priority of the board when it is about to drive the hardware, and no sooner (HANDOVER
 * 4.10; test/e2e/realtime.test.ts).
 */
import { readdirSync } from 'node:fs'
import { loadSystem } from '../../../drivers/owner/linux/system.ts'

/** sched(7) */
const SCHED_FIFO = 1
/** Passes over the threads: a later one raises threads that began, with the old priority, during the one before. */
const PASSES = 5

let setScheduler: ((...args: (number | Uint8Array)[]) => number) | undefined

/**
 * Puts every thread of these processes under SCHED_FIFO (sched_setscheduler(2)); threads that have ended are skipped.
 *
 * @param priority 1 to 99
 * @throws with `code` EPERM where that is not allowed, `unsupported` where there is no koffi
 */
export function raisePriority(pids: readonly number[], priority: number): void {
  setScheduler ??= loadSystem().bind('sched_setscheduler', 'int', ['int', 'int', 'void*'])
  // struct sched_param
  const parameters = new Uint8Array(Int32Array.of(priority).buffer)
  const raised = new Set<number>()
  for (let pass = 0; pass < PASSES; pass++) {
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
