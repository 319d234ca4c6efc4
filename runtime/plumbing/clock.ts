/** Whether the computer's clock is synchronised, according to the kernel (BUNDLE 10.13). */
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

/** Null: the kernel cannot be asked (no Linux, no koffi, a filter of system calls), and there is no file of timesyncd. */
export function isClockSynchronised(): boolean | null {
  const maxError = readMaxError()
  if (maxError !== null) return maxError < MAX_ERROR_US
  return existsSync(TIMESYNCD) ? true : null
}

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
