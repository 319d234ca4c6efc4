/**
 * Invariant: `onLive` functions begin after the program drives the hardware, and have ended, or timed out, before another
 * program drives it (HANDOVER 13.6; test/runtime/testkit/life.test.ts).
 */
import type { OnLive, Why } from './spec.ts'
import { messageOf } from './state.ts'
import type { LogLevel } from './wire.ts'

/** Longer than connecting needs. A slower onLive is logged, but not ended, as it may wait for a network for days. */
const SLOW_MS = 10_000

type Log = (text: string, level: LogLevel) => void

/** The onLive functions of one instance, and their ends. */
export class Life {
  readonly #onLive: readonly OnLive[]
  readonly #log: Log
  readonly #failed: (error: unknown) => void
  /** The result of each function; null before the beginning and after the end. */
  #begun: Promise<unknown>[] | null = null
  #ending: Promise<void> | null = null

  constructor(onLive: readonly OnLive[], log: Log, failed: (error: unknown) => void) {
    this.#onLive = onLive
    this.#log = log
    this.#failed = failed
  }

  get isOn(): boolean {
    return this.#begun !== null
  }

  /** Calls the functions in a later turn of the event loop, never in the gap. An exception in one is a crash. */
  begin(why: Why): void {
    if (this.#ending !== null) return void this.#ending.then(() => this.begin(why))
    // after an undone swap the program may go on without having been ended: its onLive is still running
    if (this.#onLive.length === 0 || this.#begun !== null) return
    const begun: Promise<unknown>[] = this.#onLive.map((fn) =>
      new Promise(setImmediate).then(() => (this.#begun === begun ? fn(why) : null)),
    )
    this.#begun = begun
    const slow = setTimeout(() => this.#log(`onLive has not returned within ${SLOW_MS / 1000} s`, 'warn'), SLOW_MS)
    slow.unref()
    Promise.all(begun)
      .catch((error) => this.#begun === begun && this.#failed(error))
      .finally(() => clearTimeout(slow))
  }

  /** Calls the ends, and waits for them for at most `ms`. */
  end(ms: number): Promise<void> {
    this.#ending ??= this.#end(ms).finally(() => {
      this.#ending = null
    })
    return this.#ending
  }

  async #end(ms: number): Promise<void> {
    const begun = this.#begun
    if (begun === null) return
    const ends = begun.map(async (each) => {
      const end = await each
      if (typeof end === 'function') await end()
    })
    await this.within(ms, 'the end of onLive', ends)
    this.#begun = null
  }

  /** Waits for all of `work`, for at most `ms`. Failures and lateness are logged. */
  async within(ms: number, what: string, work: readonly Promise<unknown>[]): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(() => {
        this.#log(`${what} took longer than ${Math.round(ms)} ms: going on without it`, 'warn')
        resolve()
      }, ms)
    })
    const all = Promise.allSettled(work).then((results) => {
      for (const result of results) {
        if (result.status === 'rejected') this.#log(`${what} failed: ${messageOf(result.reason)}`, 'error')
      }
    })
    await Promise.race([all, late])
    clearTimeout(timer)
  }
}
