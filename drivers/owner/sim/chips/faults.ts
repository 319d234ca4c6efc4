/**
 * Adds injected faults to a chip model, the same ones for every model (HANDLES 9.8). A faulty transfer does not reach
 * the chip.
 *
 * `nack-next`: the number of transfers that are not acknowledged; true is 1. `bad-data`: the number of reads that give
 * 0xff, as when the chip releases the bus in the middle; true is 1. `stuck-bus`: while true, the chip holds the data
 * line low, which blocks the whole bus.
 */
import type { ChipModel, TransferResult } from './chip.ts'

export interface Faulty<S> {
  readonly chip: S
  /** Transfers still to come that are not acknowledged. */
  readonly nacks: number
  /** Reads still to come that give 0xff. */
  readonly bad: number
  readonly stuck: boolean
}

/** The model with fault injection. */
export function withFaults<S>(model: ChipModel<S>): ChipModel<Faulty<S>> {
  const step = (faulty: Faulty<S>, call: (chip: S) => TransferResult<S>): TransferResult<Faulty<S>> => {
    if (faulty.stuck) return { next: faulty, fault: 'bus' }
    if (faulty.nacks > 0) return { next: { ...faulty, nacks: faulty.nacks - 1 }, fault: 'no-ack' }
    const done = call(faulty.chip)
    return { ...done, next: { ...faulty, chip: done.next } }
  }
  return {
    initial: { chip: model.initial, nacks: 0, bad: 0, stuck: false },
    write: (faulty, bytes) => step(faulty, (chip) => model.write(chip, bytes)),
    read(faulty, length) {
      const done = step(faulty, (chip) => model.read(chip, length))
      if (faulty.bad === 0 || 'fault' in done) return done
      return { next: { ...done.next, bad: faulty.bad - 1 }, bytes: new Uint8Array(length).fill(0xff) }
    },
    snapshot: ({ chip, nacks, bad, stuck }) => ({ ...model.snapshot(chip), nacks, bad, stuck }),
    poke(faulty, what, value) {
      if (what === 'nack-next' || what === 'bad-data') {
        const count = value === true ? 1 : value
        if (!Number.isInteger(count) || (count as number) < 0) return null
        return { ...faulty, [what === 'nack-next' ? 'nacks' : 'bad']: count }
      }
      if (what === 'stuck-bus') return typeof value === 'boolean' ? { ...faulty, stuck: value } : null
      const chip = model.poke(faulty.chip, what, value)
      return chip === null ? null : { ...faulty, chip }
    },
  }
}
