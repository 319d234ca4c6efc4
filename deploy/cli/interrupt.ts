/** Invariant: a command that can be interrupted says what the robot does about it; the next Ctrl-C always ends it. */
import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { Refusal } from '../errors.ts'

/** How often it is looked whether stdout is still read. */
const UNREAD_MS = 500

/** Runs `work`; Ctrl-C aborts its signal and makes the whole fail with what `told` says at that moment. */
export async function interruptible<T>(
  work: (signal: AbortSignal) => Promise<T>,
  told: () => { message: string; hint?: string },
): Promise<T> {
  const abort = new AbortController()
  let onSignal = (): void => {}
  const interrupted = new Promise<never>((_, reject) => {
    onSignal = () => {
      const { message, hint } = told()
      reject(new Refusal('interrupted', message, hint))
      abort.abort()
    }
  })
  process.once('SIGINT', onSignal)
  process.once('SIGTERM', onSignal)
  try {
    const working = work(abort.signal)
    working.catch(() => {}) // when it is interrupted nobody else looks at how it failed
    return await Promise.race([working, interrupted])
  } finally {
    process.removeListener('SIGINT', onSignal)
    process.removeListener('SIGTERM', onSignal)
  }
}

/** For streams that Ctrl-C simply ends. */
export async function untilInterrupt(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const abort = new AbortController()
  const onSignal = (): void => abort.abort()
  process.once('SIGINT', onSignal)
  process.once('SIGTERM', onSignal)
  try {
    await work(abort.signal)
  } finally {
    process.removeListener('SIGINT', onSignal)
    process.removeListener('SIGTERM', onSignal)
  }
}

/** Once, when nobody reads stdout any more. Linux says so of pipes; elsewhere the next line that is written ends this process. */
export function whenUnread(then: () => void): void {
  if (process.platform !== 'linux' || !fstatSync(1).isFIFO()) return
  const timer = setInterval(() => {
    try {
      closeSync(openSync('/proc/self/fd/1', constants.O_WRONLY | constants.O_NONBLOCK))
    } catch (error) {
      // fifo(7): a pipe without a reader cannot be opened for writing
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO') return
      clearInterval(timer)
      then()
    }
  }, UNREAD_MS)
  timer.unref()
}
