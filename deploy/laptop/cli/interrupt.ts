/** Invariant: a command that can be interrupted says what the robot does about it; the next Ctrl-C always ends it. */
import { spawn } from 'node:child_process'
import { fstatSync } from 'node:fs'
import { Refusal } from '../../shared/errors.ts'

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

/**
 * Once, when nobody reads stdout any more, if that is a pipe. Node cannot ask: tail of GNU coreutils 8.28 and later ends when
 * its stdout is read no more (poll(2)). Elsewhere the next line that is written ends this process.
 */
export function whenUnread(then: () => void): void {
  if (process.platform !== 'linux' || !fstatSync(1).isFIFO()) return
  const tail = spawn('tail', ['-f', '/dev/null', `--pid=${process.pid}`], { stdio: ['ignore', 'inherit', 'ignore'] })
  tail.once('error', () => {})
  // 1 is a tail that knows no --pid
  tail.once('exit', (status) => {
    if (status !== 1) then()
  })
  tail.unref()
}
