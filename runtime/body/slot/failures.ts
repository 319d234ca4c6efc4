/**
 * Invariant: n failures of a program in a row have about log2(n) receipts, and a program that cannot run until something
 * changes is tried once and then waits for the change (HANDOVER 9.9, 9.10; test/e2e/failures.test.ts).
 *
 * What a slot knows of its last failure, for its status line, its log and its receipts.
 */
import type { SlotStatus } from '../../../deploy/shared/api.ts'
import { Refusal, type RefusalCode } from '../../../deploy/shared/errors.ts'
import type { Cause, Consequence } from './cause.ts'
import type { SlotContext } from './context.ts'
import type { Programs } from './programs.ts'
import type { SlotRecords } from './records.ts'
import type { Runnable } from './running.ts'
import { Runs } from './runs.ts'
import { causeText } from './said.ts'

const OTHER_PROGRAM = 'change the board file and restart the runtime, or push another program'
const REBUILD = 'push a release that was built for this robot'
const AGAIN = 'build the program again and push it, or go back with: medulla rollback'

/** What ends the wait, by code; a program that failed with another code is tried again by time (HANDOVER 9.9). */
const UNTIL: Partial<Record<RefusalCode, string>> = {
  'missing-handle': OTHER_PROGRAM,
  'wrong-kind': OTHER_PROGRAM,
  'handle-leased': 'the program starts when that slot releases it',
  'wrong-arch': REBUILD,
  'wrong-node': REBUILD,
  'wrong-wire': 'build it with the medulla version that this robot runs, and push that',
  'not-reproduced': 'bring the missing statements of builders: medulla push FILE --builds BUILD; then: medulla start',
  'bad-hash': AGAIN,
  'bad-bundle': AGAIN,
  'unknown-format': AGAIN,
  'not-found': AGAIN,
  unconfined: 'medulla doctor says why; then restart the runtime',
  estopped: 'release it with medulla estop --release, then medulla start',
}

/** A crash within this time after the commit is probably the new release's fault. ms */
const SOON_MS = 60_000
/** After this many crashes in a row the hint at a rollback is given, however long ago the commit was. */
const OFTEN = 3
/** A run of this length ends a series of crashes: the next crash has a receipt again. ms */
const SERIES_ENDS_MS = 3_600_000
/** At least this long between two log lines on a program that runs on, such as one that reports itself unfit. ms */
const NEWS_MS = 1000

/** Failures of one release without a run of SERIES_ENDS_MS between them. */
interface Series {
  readonly digest: string
  count: number
  readonly codes: Set<string>
  /** The last failure has a receipt. */
  recorded: boolean
  /** The last failure came within SOON_MS of the commit. */
  soon: boolean
  cause: Cause
}

interface Waits {
  readonly cause: Cause
  readonly runnable: Runnable | null
}

export class Failures {
  readonly #slot: string
  readonly #context: SlotContext
  readonly #programs: Programs
  readonly #records: SlotRecords
  readonly #note: (level: string, text: string) => void
  readonly #runs: Runs
  #cause: Cause | null = null
  /** The last failure belongs to an upgrade: status does not show it while another program runs. */
  #inUpgrade = false
  #notedAt = Number.NEGATIVE_INFINITY
  #series: Series | null = null
  /** The program that was refused last, until `wait` takes it. */
  #refused: Runnable | null = null
  #waits: Waits | null = null
  #committedAt = Number.NEGATIVE_INFINITY

  constructor(
    slot: string,
    context: SlotContext,
    programs: Programs,
    records: SlotRecords,
    note: (level: string, text: string) => void,
  ) {
    this.#slot = slot
    this.#context = context
    this.#programs = programs
    this.#records = records
    this.#note = note
    this.#runs = new Runs(context.store, context.timeScale, programs, note)
  }

  /** `moved`: the event had a consequence. Otherwise the program runs on, and is logged when its words change, once a second. */
  met(cause: Cause, moved: boolean, inUpgrade: boolean): void {
    const known = this.#cause
    this.#cause = cause
    this.#inUpgrade = inUpgrade
    const now = performance.now()
    const changed = cause.said !== known?.said || cause.code !== known?.code
    if (!moved && !(changed && now - this.#notedAt >= NEWS_MS)) return
    this.#notedAt = now
    this.#note('warn', withCode(cause))
  }

  /** A program could not be started: a committed one may have to wait for a change (HANDOVER 9.9). */
  refused(error: unknown, runnable: Runnable | null, committed: boolean): Consequence {
    const { message } = error as Error
    const code = error instanceof Refusal ? error.code : 'internal'
    const until = committed ? this.#until(error, code) : undefined
    if (until === undefined) return { event: 'spawn-failed', said: { code, message } }
    this.#refused = runnable
    return { event: 'refused', said: { code, message: `${message}; ${until}` } }
  }

  #until(error: unknown, code: RefusalCode): string | undefined {
    if (!(error instanceof Refusal) || code !== 'missing-config') return UNTIL[code]
    return `${error.hint}, then: medulla start${this.#where}`
  }

  get #where(): string {
    return this.#slot === 'main' ? '' : ` --slot ${this.#slot}`
  }

  committed(): void {
    this.#committedAt = performance.now()
    this.#cause = this.#series = this.#waits = null
    this.#runs.ended()
    this.#runs.begin(this.#programs.current)
  }

  /** The slot was stopped: do not start the waiting program when its cause of waiting is gone. */
  giveUp(): void {
    this.#waits = null
  }

  stopped(): void {
    this.#series = this.#waits = null
    this.#runs.ended()
  }

  rest(): void {
    this.#runs.rest()
  }

  /** The 1st, 2nd, 4th, 8th … failure in a row gets a receipt, and the first of each code (HANDOVER 9.10). */
  async crashed(): Promise<void> {
    const runs = this.#programs.last?.runnable ?? null
    const digest = runs?.digest ?? ''
    const cause: Cause = this.#cause ?? { code: 'internal', message: 'the program ended' }
    this.#context.ledger.crashed?.(cause)
    const before = this.#series
    const sameSeries = before !== null && before.digest === digest && (cause.ranMs ?? 0) < SERIES_ENDS_MS
    const { count, codes } = sameSeries ? before : { count: 0, codes: new Set<string>() }
    const recorded = Number.isInteger(Math.log2(count + 1)) || !codes.has(cause.code)
    const soon = performance.now() - this.#committedAt < SOON_MS
    this.#series = { digest, count: count + 1, codes: codes.add(cause.code), recorded, soon, cause }
    this.#runs.crashed(recorded)
    if (recorded) await this.#records.failed('crashed', this.#programs.fence, { runs, cause, failures: count + 1 })
  }

  /** A program runs after a start or a restart. A restart has a receipt when the crash before it has one. */
  async back(isStart: boolean): Promise<void> {
    this.#waits = null
    if (isStart) this.#cause = null
    this.#runs.begin(this.#programs.current)
    if (this.#series !== null) {
      const { count } = this.#series
      const hint = this.#hint()
      const again = count === 1 ? 'started again' : `started again, ${count} times by now`
      this.#note(hint === null ? 'info' : 'warn', hint === null ? again : `${again}; ${hint}`)
    }
    if (isStart) await this.#records.life('started', this.#programs)
    else if (this.#series?.recorded !== false) await this.#records.life('restarted', this.#programs)
  }

  /** The program goes on that the last runtime left running. */
  goOn(): void {
    this.#runs.begin(this.#programs.current)
  }

  /** A wait has one receipt, however often a start is tried (HANDOVER 9.9). */
  async wait(): Promise<void> {
    const cause = this.#cause as Cause
    const before = this.#waits?.cause
    this.#waits = { cause, runnable: this.#refused }
    if (before?.code === cause.code && before.message === cause.message) return
    await this.#records.failed('waiting', this.#programs.fence, { runs: this.#refused, cause })
  }

  get isWaiting(): boolean {
    return this.#waits !== null
  }

  /** Why the waiting program cannot run yet; null when it can, or no program waits. */
  refusal(): Refusal | null {
    const runnable = this.#waits?.runnable ?? null
    return runnable === null ? null : this.#context.launcher.unfit(this.#slot, runnable)
  }

  /** The program waits for a handle of another slot, and the handle is free now (HANDOVER 9.9). */
  get isFree(): boolean {
    return this.#waits?.cause.code === 'handle-leased' && this.refusal() === null
  }

  /** For `status`: what an idle slot waits for, or its last failure. */
  status(isIdle: boolean): Partial<SlotStatus> {
    if (isIdle && this.#waits !== null) return this.#waiting(this.#waits)
    const text = this.#text(this.#programs.current !== null)
    const hint = this.#hint()
    return { ...(text === null ? {} : { lastError: text }), ...(hint === null ? {} : { hint }) }
  }

  #waiting({ cause, runnable }: Waits): Partial<SlotStatus> {
    // The release of an emergency stop starts nothing (HANDLES 6.7), so the slot still waits: for `medulla start`.
    const released = cause.code === 'estopped' && !this.#isStopped()
    const waits = released ? 'the emergency stop was released; start the program with: medulla start' : cause.message
    if (runnable === null) return { waits }
    const { program, version, digest } = runnable
    return { waits, program, version, digest }
  }

  #isStopped(): boolean {
    try {
      this.#context.launcher.admit()
      return false
    } catch {
      return true
    }
  }

  /** `crashed after 9 s (exit code 1), restarted 3 times; the program said: "…"` */
  #text(runs: boolean): string | null {
    const cause = this.#cause
    if (cause === null || (runs && this.#inUpgrade && this.#series?.cause !== cause)) return null
    return withCode({ ...cause, message: `${cause.message}${this.#often(runs)}` })
  }

  #often(runs: boolean): string {
    if (this.#series === null || this.#series.cause !== this.#cause) return ''
    const { count } = this.#series
    if (runs) return count === 1 ? ', restarted' : `, restarted ${count} times`
    return count === 1 ? '' : `, ${count} times in a row`
  }

  #hint(): string | null {
    if (this.#series === null || !(this.#series.soon || this.#series.count >= OFTEN)) return null
    if (!this.#context.store.canGoBack) return null
    return `medulla rollback${this.#where} goes back to the last release that ran well`
  }
}

/** The sentence of the cause after its code; the code is not repeated where the sentence begins with it. */
function withCode(cause: Cause): string {
  const text = causeText(cause)
  return text.startsWith(cause.code) ? text : `${cause.code}: ${text}`
}
