/** Why a program or an upgrade of a slot ended. */
import type { RefusalCode } from '../../../deploy/shared/errors.ts'
import type { Event } from './lifecycle.ts'

export interface Cause {
  code: RefusalCode
  /** The body's sentence. */
  message: string
  /** What the program said, as it sent it; said.ts quotes it in a sentence (HANDOVER 3.9). */
  said?: string
  /** How long the program had run, in ms. */
  ranMs?: number
}

/** The event that an action leads to, where lifecycle.ts has a row for it. */
export interface Consequence {
  readonly event: Event
  readonly said?: Cause
}
