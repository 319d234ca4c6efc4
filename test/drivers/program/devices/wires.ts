/** Real handles of programs, on variables in place of hardware. */

import type { Clock } from '../../../../drivers/clock.ts'
import { attach, type HandlePort } from '../../../../drivers/program/attached.ts'
import type {
  Grant,
  Handle,
  HandleByKind,
  Input,
  Lease,
  Level,
  SupportedKind,
} from '../../../../drivers/program/handle.ts'
import { deliverEdge } from '../../../../drivers/program/inherit/index.ts'

const lease: Lease = { live: true, fence: 1 }

/** A port that reads and writes a variable. */
export class Wire implements HandlePort {
  readonly written: number[] = []
  level = 0
  write(value: number): void {
    this.written.push(value)
  }
  read(): number {
    return this.level
  }
  close(): void {}
}

export function handle(kind: Grant['kind'], more: Partial<Grant> = {}, clock?: Clock): { wire: Wire; handle: Handle } {
  const wire = new Wire()
  const pacing = clock === undefined ? {} : { clock }
  return { wire, handle: attach({ name: 'it', id: 1, kind, via: 'inherit', ...more }, lease, wire, pacing) }
}

/** A handle with a value, and the values written to it. */
export function wired<K extends SupportedKind>(
  kind: K,
  more: Partial<Grant> = {},
  clock?: Clock,
): [HandleByKind[K], number[]] {
  const { wire, handle: made } = handle(kind, more, clock)
  return [made as HandleByKind[K], wire.written]
}

/** An input whose test sets its level at a given time and delivers the edge. */
export class TestInput {
  readonly input: Input
  readonly #wire: Wire
  #seqno = 0

  constructor(level: Level = 0) {
    const made = handle('input')
    this.#wire = made.wire
    this.#wire.level = level
    this.input = made.handle as Input
  }

  /** `ms` may be a fraction. With `heard` false the edge is lost. */
  at(ms: number, level: Level, heard = true): void {
    this.#wire.level = level
    this.#seqno++
    if (heard) deliverEdge(this.input, { level, ns: BigInt(Math.round(ms * 1e6)), seqno: this.#seqno })
  }
}
