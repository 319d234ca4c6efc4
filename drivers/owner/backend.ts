/**
 * The interface of a hardware backend (Linux or simulator), which the body uses to open every handle of a board.
 *
 * A backend opens each resource once and knows nothing of programs: the body sets fencing numbers, and the backend
 * refuses writes with an older one (HANDLES 3).
 */

import { slewOf } from '../board/places.ts'
import type { AnalogEntry, BoardHandle, ServoEntry } from '../board/types.ts'
import type { Edge, Encoding, Grant, SupportedKind } from '../program/handle.ts'
import { periodNs } from '../program/servo.ts'

export interface LineInfo {
  /** `GPIO17`, or `i2c-1@0x68` for a device on a bus: {@link placeOf}. */
  readonly line: string
  /** The handle that holds the line; null when the line is free. */
  readonly user: string | null
  readonly kind: SupportedKind | null
}

/** The open descriptors and the state of a handle, from which the next body's backend continues it (HANDLES 3.9). */
export interface KeptHandle {
  readonly fds: readonly number[]
  readonly value?: number
  readonly fence: number
  /** Inputs: number of the last edge. */
  readonly seqno?: number
}

/** How late the edges of software PWM were, over all such handles of the board. */
export interface Lateness {
  readonly edges: number
  readonly p50Us: number
  readonly p99Us: number
  readonly maxUs: number
  /** Periods without a pulse, because the thread was not scheduled in time. */
  readonly missed: number
}

/** State and counters of an open handle. Counters start at 0 with the backend and only rise. */
export interface HandleInfo {
  readonly name: string
  readonly id: number
  readonly kind: SupportedKind
  readonly line: string
  readonly value?: number
  /** The highest fencing number seen on this handle. */
  readonly fence: number
  /** How often the resource was opened: 1 for as long as the body lives (HANDLES 3.1). */
  readonly opens: number
  /** How often the initial value was written: 1 for as long as the body lives. */
  readonly initWrites: number
  /**
   * Changes of level or duty cycle since the handle was opened, without the initial write; null where programs write to
   * the hardware directly. Inputs: number of the last edge.
   */
  readonly edges: number | null
  /** Writes that were refused for their fencing number. */
  readonly staleWrites: number
  readonly kept: KeptHandle
  /** Software PWM only. */
  readonly lateness?: Lateness
}

export type GrantSource =
  | { readonly via: 'inherit'; readonly fd: number; readonly encoding: Encoding }
  | { readonly via: 'broker' }

/** One resource, held by the body. After `close`, every other method throws `no-device`. */
export interface OwnedHandle {
  readonly name: string
  readonly id: number
  readonly kind: SupportedKind
  readonly entry: BoardHandle
  /** Simulated serial lines: path of the other end, for a terminal program. */
  readonly link?: string | undefined

  /** Current value: 0 or 1, a duty cycle, or degrees. undefined for kinds without a value. */
  value(): number | undefined
  /**
   * A write by the body itself: an initial or safe level. It raises the handle's fence: older writers are refused.
   * Throws `revoked` when `fence` is below the highest seen, `unsupported` for an input or i2c.
   */
  drive(value: number, fence: number): void
  /** The descriptor to pass to a child at spawn. It stays the body's: the caller must not close it. */
  grant(): GrantSource
  /** Runs one operation ({@link OP}) for a program. Throws HardwareError, `revoked` for an old fence. */
  request(op: number, payload: Uint8Array, fence: number): Uint8Array
  /** Calls `listener` for each edge of an input, in order; never for other kinds. The result unsubscribes. */
  onEdge(listener: (edge: Edge) => void): () => void
  /** Releases the resource. Idempotent. */
  close(): void
}

export interface Backend {
  /** Every line and device of the board, held or not. */
  list(): LineInfo[]
  /** Opens the resource exclusively and drives the initial value. Throws `busy` when its line or name is in use. */
  open(name: string, id: number, entry: BoardHandle): OwnedHandle
  /** Continues a handle on descriptors that were kept open: opens no device and writes nothing. */
  adopt(name: string, id: number, entry: BoardHandle, kept: KeptHandle): OwnedHandle
  info(name: string): HandleInfo | null
  /**
   * From now on programs may use fences up to `fence`, and on the handles `names` none below it (HANDLES 3.5). Earlier
   * writes still take effect. Call it before a program receives its fence. Names that are not open are skipped.
   */
  advance(fence: number, names: readonly string[]): void
  /**
   * Names of the driven handles that changed between two times of CLOCK_MONOTONIC (ns), once for each change; null when
   * they are not known any more. Absent where programs write to the hardware directly.
   */
  changesBetween?(fromNs: number, toNs: number): string[] | null
  /** Closes every handle that is still open. Idempotent. */
  close(): void
}

/** The grant of a handle for one child (HANDLES 3.7). `fd` is the descriptor's number in that child, for `inherit`. */
export function grantOf(handle: OwnedHandle, source: GrantSource, fd?: number): Grant {
  const value = handle.value()
  const { entry } = handle
  return {
    name: handle.name,
    id: handle.id,
    kind: handle.kind,
    via: source.via,
    ...(source.via === 'inherit' && fd !== undefined ? { fd, encoding: source.encoding } : {}),
    ...(entry.kind === 'i2c' || entry.kind === 'analog' ? { address: entry.address } : {}),
    ...(entry.kind === 'listen' && entry.port !== undefined ? { port: entry.port } : {}),
    ...(entry.kind === 'analog' ? { adc: adcOf(entry) } : {}),
    ...(entry.kind === 'pwm' ? { periodNs: periodNs(entry.frequencyHz), min: entry.min, max: entry.max } : {}),
    ...(entry.kind === 'servo' ? servoGrant(entry) : {}),
    ...(slewOf(entry) === 0 ? {} : { slew: slewOf(entry) }),
    ...(value === undefined ? {} : { value }),
  }
}

function adcOf({ adc, channel, fullScale }: AnalogEntry): NonNullable<Grant['adc']> {
  return { chip: adc, channel, fullScale }
}

function servoGrant({ frequencyHz, minUs, maxUs, degrees: [min, max] }: ServoEntry): Partial<Grant> {
  return { periodNs: periodNs(frequencyHz), pulsesNs: [minUs * 1000, maxUs * 1000], min, max }
}
