/**
 * What body and standby say to each other: NDJSON on the lifeline, and again on the socket of the next body, where it
 * follows the legacy: u32 length (little endian), a Legacy as JSON, then the descriptors of its handles, in their order
 * (HANDLES 14.6).
 */
import type { Kept } from '../../drivers/backend.ts'
import type { Step } from '../../drivers/linux/safe.ts'

export const STANDBY_FORMAT = 1
/** Name of the socket in the folder that the body names. */
export const STANDBY_SOCKET = 'standby.sock'
/** The lifeline in the standby's table; the descriptors of the handles follow. */
export const LIFELINE = 3
export const FIRST_FD = 4

/** One handle, without its descriptors: it says how many there are. */
export interface Held {
  readonly name: string
  readonly id: number
  /** Its entry of the board file, to compare with another one. */
  readonly entry: unknown
  readonly fds: number
  readonly kept: Omit<Kept, 'fds'>
  readonly safe: readonly Step[]
  /** The value that `safe` drives; null when there is none. */
  readonly safeValue: number | null
}

export type ToStandby =
  | {
      readonly t: 'init'
      readonly format: number
      readonly folder: string
      /** What must be the same for the descriptors to be of use: the board's model and chip. */
      readonly about: unknown
      readonly handles: readonly Held[]
      /** The control group that all programs are in; null when there is none. */
      readonly cgroup: string | null
      /** MEDULLA_TIME_SCALE */
      readonly scale: number
    }
  /** Every program that runs now, each the leader of its process group. */
  | { readonly t: 'pids'; readonly pids: readonly number[] }
  /** Newer values, fences and sequence numbers, by name. */
  | { readonly t: 'kept'; readonly kept: Readonly<Record<string, Omit<Kept, 'fds'>>> }
  /** Close these; answered by `dropped`. */
  | { readonly t: 'drop'; readonly names: readonly string[] }
  | { readonly t: 'end' }

export type FromStandby =
  | { readonly t: 'ready' }
  | { readonly t: 'failed'; readonly message: string }
  | { readonly t: 'dropped' }

/** What a body left behind when it died. */
export interface Rescue {
  /** CLOCK_MONOTONIC in ns: the end of the body was seen; the safe levels were driven; no program was left. */
  readonly seen: string
  readonly safe: string
  readonly ended: string
  /** Every program was known to stand still before the levels were driven. */
  readonly confirmed: boolean
  /** Handles that could not be driven, and why. */
  readonly failed: readonly string[]
}

export interface Legacy {
  readonly format: number
  readonly about: unknown
  readonly handles: readonly Held[]
  readonly rescue: Rescue
}
