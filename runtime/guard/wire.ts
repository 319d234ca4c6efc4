/**
 * What body and guard say to each other: NDJSON on the lifeline, and again on the socket of the next body, where it
 * follows the legacy: u32 length (little endian), a Legacy as JSON, then the descriptors of its handles, in their order
 * (HANDLES 14.6).
 */
import type { Kept } from '../../drivers/owner/backend.ts'
import type { Step } from '../../drivers/owner/linux/safe.ts'
import type { Latch } from './latch.ts'

export const GUARD_FORMAT = 2
/** Name of the socket in the folder that the body names. */
export const GUARD_SOCKET = 'guard.sock'
/** The lifeline in the guard's table; the latch file (or /dev/null) and the descriptors of the handles follow. */
export const LIFELINE = 3
export const LATCH_FD = 4
export const FIRST_FD = 5

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

/** The input of the emergency stop, and how its level is read. */
export interface StopInput {
  readonly name: string
  readonly level: 0 | 1
  /** `line`: GPIO_V2_LINE_GET_VALUES, and poll(2) tells of edges; `level`: one byte at position 0. */
  readonly encoding: 'line' | 'level'
}

export type ToGuard =
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
      /** null: the board names none. */
      readonly stopInput: StopInput | null
      /** Whether descriptor {@link LATCH_FD} is the latch file; if not, the guard latches in memory only. */
      readonly latch: boolean
      /** ms without a word after the first `pulse`: the body counts as gone. 0: it never does. */
      readonly bodyMs: number
    }
  /** The body's event loop turns. */
  | { readonly t: 'pulse' }
  /** Every program that runs now, each the leader of its process group. */
  | { readonly t: 'pids'; readonly pids: readonly number[] }
  /** Newer values, fences and sequence numbers, by name. */
  | { readonly t: 'kept'; readonly kept: Readonly<Record<string, Omit<Kept, 'fds'>>> }
  /** Freeze every program, drive the safe levels, latch; answered by `stopped`. */
  | { readonly t: 'stop'; readonly reason: string }
  /** The latch is ended; answered by `released`. */
  | { readonly t: 'release' }
  /** Close these; answered by `dropped`. */
  | { readonly t: 'drop'; readonly names: readonly string[] }
  | { readonly t: 'end' }

export type FromGuard =
  | { readonly t: 'ready' }
  | { readonly t: 'failed'; readonly message: string }
  | { readonly t: 'dropped' }
  /** Every program stands still and the levels are driven: unasked when the input did it. */
  | ({ readonly t: 'stopped'; readonly latch: Latch; readonly byInput: boolean } & Drive)
  /** `pressed`: the input is at its level, and the latch stays. */
  | { readonly t: 'released'; readonly pressed: boolean }

/** One time that the safe levels were driven. */
export interface Drive {
  /** CLOCK_MONOTONIC in ns: the cause was seen; the safe levels were driven. */
  readonly seen: string
  readonly safe: string
  /** Every program was known to stand still before the levels were driven. */
  readonly confirmed: boolean
  /** Handles that could not be driven, and why. */
  readonly failed: readonly string[]
}

/** What a body left behind when it died, or hung. */
export interface Rescue extends Drive {
  readonly cause: 'ended' | 'hung'
  /** CLOCK_MONOTONIC in ns: no program was left. */
  readonly ended: string
}

export interface Legacy {
  readonly format: number
  readonly about: unknown
  readonly handles: readonly Held[]
  readonly rescue: Rescue
  /** An emergency stop that no release has ended, whatever the disk says. */
  readonly latch: Latch | null
}
