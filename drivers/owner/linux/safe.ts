/**
 * Invariant: what brings a handle to its safe level is known beforehand, as bytes, to a process that knows no encodings.
 *
 * HANDLES 6.2, for the guard (HANDLES 14).
 */

import type { BoardHandle } from '../../board/types.ts'
import { GPIO_V2_LINE_SET_VALUES_IOCTL, lineValues } from '../../program/inherit/line.ts'
import { dutyOf, periodNs, scaleOf } from '../../program/servo.ts'
import type { Kept } from '../backend.ts'
import { safeValue } from '../values.ts'

/** One system call on the descriptor at place `fd` of the handle's own. Without `request` it is a write. */
export interface Step {
  readonly fd: number
  /** Hexadecimal. */
  readonly bytes: string
  /** ioctl(2) with a pointer to the bytes. */
  readonly request?: number
  /** pwrite(2) there; write(2) without. */
  readonly at?: number
}

/** None: the handle holds what it has, or there is nothing to drive it by. */
export function safeSteps(entry: BoardHandle, kept: Kept): Step[] {
  const safe = safeValue(entry)
  if (safe === null || kept.fds.length === 0) return []
  if (entry.kind === 'servo') return [pulse(dutyOf(scaleOf(entry), safe), entry.frequencyHz)]
  // HANDLES 19.6: the thread makes no edge after it has read this byte
  if (entry.kind === 'pwm' && entry.driver === 'software') return [{ fd: 1, bytes: '01', at: 0 }, level(safe)]
  if (entry.kind === 'pwm') return [pulse(safe, entry.frequencyHz)]
  if (entry.kind === 'output' && entry.driver === 'sysfs') return [text(String(safe))]
  return [level(safe)]
}

const level = (value: number): Step => ({
  fd: 0,
  bytes: hex(lineValues(value)),
  request: GPIO_V2_LINE_SET_VALUES_IOCTL,
})

const pulse = (duty: number, frequencyHz: number): Step => text(`${Math.round(duty * periodNs(frequencyHz))}\n`)

/** HANDLES 5.1 and 5.2 */
const text = (content: string): Step => ({ fd: 0, bytes: hex(Buffer.from(content)), at: 0 })

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
