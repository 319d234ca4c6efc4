/**
 * The protocol of body and guard: NDJSON on the lifeline. On the connection of the next body the guard first sends u32 length
 * (little endian), a GuardInheritance as JSON, and the descriptors of its handles in order (HANDLES 14.6); then the same NDJSON.
 */
import type { KeptHandle } from '../../drivers/owner/backend.ts'
import type { SafeCall } from '../../drivers/owner/linux/safe.ts'
import type { Latch } from './latch.ts'

export const GUARD_FORMAT = 2
/** Name of the guard's socket. */
export const GUARD_SOCKET = 'guard.sock'
/** The lifeline in the guard's table; the latch file (or /dev/null) and the descriptors of the handles follow. */
export const LIFELINE = 3
export const LATCH_FD = 4
export const FIRST_FD = 5

/** One handle. Its descriptors are passed separately; `fds` is their number. */
export interface HeldHandle {
  readonly name: string
  readonly id: number
  /** Its entry in the board file; the next body compares it with its own. */
  readonly entry: unknown
  readonly fds: number
  readonly kept: Omit<KeptHandle, 'fds'>
  readonly safe: readonly SafeCall[]
  /** The value that `safe` drives; null when there is none. */
  readonly safeValue: number | null
}

/** The input of the emergency stop, and how to read its level. */
export interface StopInput {
  readonly name: string
  readonly level: 0 | 1
  /** `line`: GPIO_V2_LINE_GET_VALUES, and poll(2) reports edges; `level`: one byte at position 0. */
  readonly encoding: 'line' | 'level'
}

export type ToGuard =
  | {
      readonly t: 'init'
      readonly format: number
      readonly folder: string
      /** The board's model and chip: the descriptors are of no use on another one. */
      readonly about: unknown
      readonly handles: readonly HeldHandle[]
      /** The control group that all programs are in; null when there is none. */
      readonly cgroup: string | null
      /** MEDULLA_TIME_SCALE */
      readonly scale: number
      /** Null: the board file names none. */
      readonly stopInput: StopInput | null
      /** Whether descriptor {@link LATCH_FD} is the latch file; if not, the guard latches in memory only. */
      readonly latch: boolean
      /** The body counts as hung after this long without a `pulse`, in ms, counted from the first one. 0: never. */
      readonly bodyMs: number
    }
  /** The body's event loop runs. */
  | { readonly t: 'pulse'; forMs?: number }
  /** Every program that runs now, each the leader of its process group. */
  | { readonly t: 'pids'; readonly pids: readonly number[] }
  /** Newer values, fences and sequence numbers, by name. */
  | { readonly t: 'kept'; readonly kept: Readonly<Record<string, Omit<KeptHandle, 'fds'>>> }
  /** Freeze every program, drive the safe levels, latch; answered by `stopped`. */
  | { readonly t: 'stop'; readonly reason: string }
  /** End the latch; answered by `released`. */
  | { readonly t: 'release' }
  /** Close these handles; answered by `dropped`. */
  | { readonly t: 'drop'; readonly names: readonly string[] }
  | { readonly t: 'end' }

export type FromGuard =
  | { readonly t: 'ready' }
  | { readonly t: 'failed'; readonly message: string }
  | { readonly t: 'dropped' }
  /** Every program is stopped and the levels are driven. Sent unasked when the input caused it. */
  | ({ readonly t: 'stopped'; readonly latch: Latch; readonly byInput: boolean } & SafeDrive)
  /** `pressed`: the input is at its level, and the latch stays. */
  | { readonly t: 'released'; readonly pressed: boolean }

/** One time that the safe levels were driven. */
export interface SafeDrive {
  /** When the cause was seen, in ns of CLOCK_MONOTONIC. */
  readonly seen: string
  /** When the safe levels were driven, in ns of CLOCK_MONOTONIC. */
  readonly safe: string
  /** Every program was seen stopped before the levels were driven. */
  readonly confirmed: boolean
  /** Handles that could not be driven, and why. */
  readonly failed: readonly string[]
}

/** What the guard did when a body died or hung. */
export interface Rescue extends SafeDrive {
  readonly cause: 'ended' | 'hung'
  /** When every program had ended, in ns of CLOCK_MONOTONIC. */
  readonly ended: string
}

export interface GuardInheritance {
  readonly format: number
  readonly about: unknown
  readonly handles: readonly HeldHandle[]
  readonly rescue: Rescue
  /** An emergency stop without a release, also when it is not on disk. */
  readonly latch: Latch | null
}
