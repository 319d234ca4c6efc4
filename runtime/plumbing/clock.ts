/** Whether the computer's clock is synchronised, according to the kernel (BUNDLE 10.13). */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { type Argument, loadSystem } from '../../drivers/owner/linux/system.ts'

/** systemd-timesyncd makes this file once it has set the clock (systemd-timesyncd.service(8)). */
const TIMESYNCD = '/run/systemd/timesync/synchronized'
/** At least the size of struct timex (adjtimex(2)). Its fourth word is `maxerror`, in µs. */
const TIMEX_SIZE = 256
const WORD = process.arch === 'arm' || process.arch === 'ia32' ? 4 : 8
/**
 * The kernel's NTP_PHASE_LIMIT, in µs: `maxerror` stays there while no program disciplines the clock. STA_UNSYNC would be wrong:
 * chrony leaves it set without `rtcsync`, and timesyncd for a hardware clock in local time. `timedatectl` uses maxerror, too.
 */
const MAX_ERROR_US = 16_000_000n

type Adjtimex = (timex: Argument) => number
/** Null: there is none. Looked up once, because koffi fails at a second attempt. */
let adjtimex: Adjtimex | null | undefined

/**
 * Null: unknown. Where the kernel cannot be asked (no koffi, or the filter of system calls that the service has), the file of
 * timesyncd answers, and for other time services timedated.
 */
export function isClockSynchronised(): boolean | null {
  const maxError = readMaxError()
  if (maxError !== null) return maxError < MAX_ERROR_US
  if (process.platform !== 'linux') return null
  return existsSync(TIMESYNCD) ? true : timedated.answer()
}

/** At least this long between two questions to timedated. ms */
const ASK_MS = 30_000
const ANSWER_MS = 5000

/** Asks systemd-timedated through its command, in the background: a call returns the last answer. */
export class Timedated {
  readonly #command: string
  #answer: boolean | null = null
  #askedAt = Number.NEGATIVE_INFINITY

  constructor(command = 'timedatectl') {
    this.#command = command
  }

  answer(): boolean | null {
    const now = performance.now()
    if (now - this.#askedAt >= ASK_MS) {
      this.#askedAt = now
      const args = ['show', '--property=NTPSynchronized', '--value']
      execFile(this.#command, args, { timeout: ANSWER_MS }, (error, stdout) => {
        this.#answer = error === null ? stdout.trim() === 'yes' : null
      })
    }
    return this.#answer
  }
}

const timedated = new Timedated()

function readMaxError(): bigint | null {
  if (adjtimex === undefined) adjtimex = find()
  const timex = new Uint8Array(TIMEX_SIZE)
  try {
    // The first word, `modes`, is 0: the call only reads.
    if (adjtimex === null || adjtimex(timex) < 0) return null
  } catch {
    return null
  }
  const view = new DataView(timex.buffer)
  return WORD === 4 ? BigInt(view.getInt32(3 * WORD, true)) : view.getBigInt64(3 * WORD, true)
}

function find(): Adjtimex | null {
  try {
    return loadSystem().bind('adjtimex', 'int', ['void*'])
  } catch {
    return null
  }
}
