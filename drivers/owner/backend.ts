/**
 * Invariant: a backend opens each resource once, on behalf of the body, and only the body holds what is here.
 *
 * A backend never watches a program: it is told fencing numbers, and refuses what they forbid (HANDLES 3).
 */

import { slewOf } from '../board/places.ts'
import type { AnalogEntry, BoardHandle, ServoEntry } from '../board/types.ts'
import type { Edge, Encoding, Grant, SupportedKind } from '../program/handle.ts'
import { periodNs } from '../program/servo.ts'

export interface LineInfo {
  /** `GPIO17`, or `i2c-1@0x68` for a device on a bus: {@link placeOf}. */
  readonly line: string
  /** The handle that holds it; null when it is free. */
  readonly user: string | null
  readonly kind: SupportedKind | null
}

/** What must be kept open, and remembered, for another backend of this board to carry on (HANDLES 3.9). */
export interface Kept {
  readonly fds: readonly number[]
  readonly value?: number
  readonly fence: number
  /** Inputs: the last seqno. */
  readonly seqno?: number
}

/** How late the edges of all software PWM of the board were: each of them is counted. */
export interface Lateness {
  readonly edges: number
  readonly p50Us: number
  readonly p99Us: number
  readonly maxUs: number
  /** Periods without a pulse, as the thread got no turn in time. */
  readonly missed: number
}

/** Everything there is to know about an open handle. Counters start at 0 with the backend and only rise. */
export interface HandleInfo {
  readonly name: string
  readonly id: number
  readonly kind: SupportedKind
  readonly line: string
  readonly value?: number
  /** Highest fencing number that was used on it. */
  readonly fence: number
  /** Times that the resource was opened: 1 for as long as the body lives (HANDLES 3.1). */
  readonly opens: number
  /** Writes that gave the resource its initial value: 1, too. */
  readonly initWrites: number
  /**
   * Changes of level or duty since it was opened, the initial one not counted; null where programs write past the
   * backend. Inputs: the last seqno.
   */
  readonly edges: number | null
  /** Writes that were refused because of their fencing number. */
  readonly staleWrites: number
  readonly kept: Kept
  /** Software PWM. */
  readonly lateness?: Lateness
}

export type GrantSource =
  | { readonly via: 'inherit'; readonly fd: number; readonly encoding: Encoding }
  | { readonly via: 'broker' }

/** One resource as the body holds it. After `close` every method but `close` throws `no-device`. */
export interface OwnedHandle {
  readonly name: string
  readonly id: number
  readonly kind: SupportedKind
  readonly entry: BoardHandle
  /** Simulated serial lines: what a terminal program opens to be at the other end. */
  readonly link?: string | undefined

  /** Present value (0 or 1, a duty cycle, or degrees); undefined for what is not driven and has no level. */
  value(): number | undefined
  /**
   * The body's own write: initial and safe levels. It raises the handle's fence, so that older writers are refused.
   * Throws `revoked` when `fence` is below the highest seen, `unsupported` for an input or i2c.
   */
  drive(value: number, fence: number): void
  /** What to put into a child's descriptor table. The fd is the body's: pass it at spawn, never close it. */
  grant(): GrantSource
  /** One operation of {@link OP} on behalf of a program. Throws HardwareError, `revoked` for an old fence. */
  request(op: number, payload: Uint8Array, fence: number): Uint8Array
  /** Inputs: every edge, in order. Other kinds never call it. The returned function unsubscribes. */
  onEdge(listener: (edge: Edge) => void): () => void
  /** Releases the resource. Idempotent. */
  close(): void
}

export interface Backend {
  /** Every line and device of the board, held or not. */
  list(): LineInfo[]
  /** Opens exclusively and drives the initial value. Throws `busy` when the line or the name is held. */
  open(name: string, id: number, entry: BoardHandle): OwnedHandle
  /** As `open`, on descriptors that were kept open: no device is opened and nothing is written. */
  adopt(name: string, id: number, entry: BoardHandle, kept: Kept): OwnedHandle
  info(name: string): HandleInfo | null
  /**
   * HANDLES 3.5: from now on programs may use fences up to `fence`, and on the handles `names` none below it. What they
   * wrote before counts. Call it before a program is told its fence. Names that are not open are skipped.
   */
  advance(fence: number, names: readonly string[]): void
  /** Closes every handle that is still open. Idempotent. */
  close(): void
}

/** HANDLES 3.7: the grant of a handle for one child; `fd` is its place in that child's table (needed for `inherit`). */
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
