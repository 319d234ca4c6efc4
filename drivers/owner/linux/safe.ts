/**
 * Prepares the system calls that drive a handle to its safe level (HANDLES 6.2), as plain bytes: the guard, a process
 * without our encodings, only has to make them (HANDLES 14).
 */

import type { BoardHandle } from '../../board/types.ts'
import { GPIO_V2_LINE_SET_VALUES_IOCTL, lineValues } from '../../program/inherit/line.ts'
import { dutyOf, periodNs, scaleOf } from '../../program/servo.ts'
import type { KeptHandle } from '../backend.ts'
import { safeValue } from '../values.ts'

/** One system call. `fd` is an index into the handle's descriptors. Without `request` the call is a write. */
export interface SafeCall {
  readonly fd: number
  /** Hexadecimal. */
  readonly bytes: string
  /** Request of an ioctl(2) with a pointer to the bytes. */
  readonly request?: number
  /** Position for pwrite(2); absent: write(2). */
  readonly at?: number
}

/** Empty when the handle holds its value, or has no descriptor to drive it by. */
export function safeCalls(entry: BoardHandle, kept: KeptHandle): SafeCall[] {
  const safe = safeValue(entry)
  if (safe === null || kept.fds.length === 0) return []
  if (entry.kind === 'servo') return [pulse(dutyOf(scaleOf(entry), safe), entry.frequencyHz)]
  // first stop the thread, which reads this byte before and after each edge (HANDLES 19.6)
  if (entry.kind === 'pwm' && entry.driver === 'software') return [{ fd: 1, bytes: '01', at: 0 }, level(safe)]
  if (entry.kind === 'pwm') return [pulse(safe, entry.frequencyHz)]
  if (entry.kind === 'output' && entry.driver === 'sysfs') return [text(String(safe))]
  return [level(safe)]
}

const level = (value: number): SafeCall => ({
  fd: 0,
  bytes: hex(lineValues(value)),
  request: GPIO_V2_LINE_SET_VALUES_IOCTL,
})

const pulse = (duty: number, frequencyHz: number): SafeCall => text(`${Math.round(duty * periodNs(frequencyHz))}\n`)

/** Text at position 0, the encoding of sysfs files (HANDLES 5.1 and 5.2). */
const text = (content: string): SafeCall => ({ fd: 0, bytes: hex(Buffer.from(content)), at: 0 })

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
