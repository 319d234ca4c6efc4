/**
 * Adds the place at which a program hangs to the cause of its end (HANDOVER 4.11).
 *
 * Invariant: the stop, and every event after it, waits for none of this: an event of the slot ends the waiting
 * (test/runtime/body/slot/hang.test.ts).
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Cause } from './cause.ts'
import type { Action } from './lifecycle.ts'
import type { SlotLog } from './log.ts'
import type { Running } from './running.ts'

/** How long a restart and the result of an upgrade wait for the place, in ms before MEDULLA_TIME_SCALE. */
const WAIT_MS = 1000

/** What a running program is asked for its place with. */
interface Traceable {
  readonly child: Pick<Running['child'], 'fence' | 'captureHang' | 'hangPlace'>
}

export class Hang {
  /** Resolves when the cause has the place, or nothing is to wait for it any more. */
  found: Promise<void> = Promise.resolve()
  readonly #log: Pick<SlotLog, 'add'>
  readonly #timeScale: number
  #expected: { running: Traceable; cause: Cause; mayRun: boolean } | null = null
  #hurry = (): void => {}

  constructor(log: Pick<SlotLog, 'add'>, timeScale: number) {
    this.#log = log
    this.#timeScale = timeScale
  }

  /** This program seems to hang, and `actions` end it. Where another program waits to go on, nothing is waited for. */
  expect(running: Traceable | null, cause: Cause, actions: readonly Action[]): void {
    const mayRun = !actions.some((action) => action === 'resume-old' || action === 'resume-current')
    this.#expected = running === null ? null : { running, cause, mayRun }
  }

  /** Before the kill: after the safe levels, where the row drives them. */
  async capture(running: Traceable | null): Promise<void> {
    const expected = this.#expected
    if (expected === null || expected.running !== running) return
    this.#expected = null
    const { child } = expected.running
    const { cause, mayRun } = expected
    const inTime = new Promise<void>((resolve) => {
      this.#hurry = resolve
    })
    await Promise.race([inTime, child.captureHang?.(mayRun)])
    const mapped = child.hangPlace?.().then((place) => {
      if (place === null || place === undefined) return
      // The names of files are the program's own text (HANDOVER 3.9).
      cause.said ??= place.text
      this.#log.add('log', place.stack, child.fence, 'error')
    })
    const late = sleep(WAIT_MS * this.#timeScale, undefined, { ref: false })
    this.found = Promise.race([inTime, mapped, late])
  }

  /** Ends the waiting. */
  hurry(): void {
    this.#hurry()
  }
}
