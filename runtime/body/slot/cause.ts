/** Why something in a slot ended, or went on otherwise. */
import type { RefusalCode } from '../../../deploy/shared/errors.ts'
import type { Event } from './lifecycle.ts'

export interface Cause {
  code: RefusalCode
  /** The body's own words. */
  message: string
  /** The program's, as it sent them: said.ts shows them (HANDOVER 3.9). */
  said?: string
  /** How long the program ran that this is about, in ms. */
  ranMs?: number
}

/** What an action came to, where the lifecycle's table goes on from that. */
export interface Consequence {
  readonly event: Event
  readonly said?: Cause
}
