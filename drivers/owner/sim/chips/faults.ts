/**
 * Invariant: a fault comes before anything happens in the chip, and every model has the same ones (HANDLES 9.8).
 *
 * `nack-next`: true, or how many transfers are not acknowledged. `bad-data`: true, or how many reads give 0xff, which is
 * what a bus reads when the chip lets go of it in the middle. `stuck-bus`: true until it is false; a chip that holds
 * the data line low holds it for all.
 */
import type { ChipModel, Step } from './chip.ts'

export interface Faulty<S> {
  readonly chip: S
  /** Transfers that will not be acknowledged. */
  readonly nacks: number
  /** Reads that will give 0xff. */
  readonly bad: number
  readonly stuck: boolean
}

/** The same chip, with faults. */
export function withFaults<S>(model: ChipModel<S>): ChipModel<Faulty<S>> {
  const step = (faulty: Faulty<S>, call: (chip: S) => Step<S>): Step<Faulty<S>> => {
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
