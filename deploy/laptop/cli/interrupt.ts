/** Ctrl-C in commands: an interrupted command says what the robot does now. A second Ctrl-C always ends the process. */
import { spawn } from 'node:child_process'
import { fstatSync } from 'node:fs'
import { Refusal } from '../../shared/errors.ts'

/** Runs `work`. Ctrl-C aborts its signal, and then this throws `interrupted` with the message that `describe` returns. */
export async function interruptible<T>(
  work: (signal: AbortSignal) => Promise<T>,
  describe: () => { message: string; hint?: string },
): Promise<T> {
  const abort = new AbortController()
  let onSignal = (): void => {}
  const interrupted = new Promise<never>((_, reject) => {
    onSignal = () => {
      const { message, hint } = describe()
      reject(new Refusal('interrupted', message, hint))
      abort.abort()
    }
  })
  process.once('SIGINT', onSignal)
  process.once('SIGTERM', onSignal)
  try {
    const working = work(abort.signal)
    working.catch(() => {}) // after an interrupt its failure is not awaited
    return await Promise.race([working, interrupted])
  } finally {
    process.removeListener('SIGINT', onSignal)
    process.removeListener('SIGTERM', onSignal)
  }
}

/** Runs `work`; Ctrl-C aborts its signal, and this then returns normally. For commands that follow something until Ctrl-C. */
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

/**
 * If stdout is a pipe, calls `then` once its reader has closed it. Node has no call for that, so this starts a `tail` on the
 * same pipe: that of GNU coreutils 8.28 and later polls its stdout and ends when the reader is gone. On other systems this
 * process ends at its next write.
 */
export function whenUnread(then: () => void): void {
  if (process.platform !== 'linux' || !fstatSync(1).isFIFO()) return
  const tail = spawn('tail', ['-f', '/dev/null', `--pid=${process.pid}`], { stdio: ['ignore', 'inherit', 'ignore'] })
  tail.once('error', () => {})
  // status 1: this tail does not have --pid
  tail.once('exit', (status) => {
    if (status !== 1) then()
  })
  tail.unref()
}
