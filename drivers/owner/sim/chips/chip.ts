/**
 * Invariant: a simulated chip is a pure value; every operation gives the next value and changes nothing.
 */

/** What a person wants to know of a chip, in SI units. */
export type ChipState = Record<string, number | boolean | string | null | readonly number[] | readonly string[]>

type ChipFault = 'no-ack' | 'bus'

export type Step<S> = { readonly next: S; readonly bytes: Uint8Array } | { readonly next: S; readonly fault: ChipFault }

export interface ChipModel<S> {
  readonly initial: S
  /** One write transfer, as bytes after the address. */
  write(chip: S, bytes: Uint8Array): Step<S>
  /** One read transfer of `length` bytes. */
  read(chip: S, length: number): Step<S>
  snapshot(chip: S): ChipState
  /** Changes what the chip senses. Null when `what` is unknown or `value` does not fit. */
  poke(chip: S, what: string, value: unknown): S | null
}

export interface SpiStep<S> {
  readonly next: S
  /** As many as went out. */
  readonly bytes: Uint8Array
}

/** On SPI bytes go both ways at once, and nothing is acknowledged. */
export interface SpiChipModel<S> {
  readonly initial: S
  /** One message, chip select held. */
  transfer(chip: S, bytes: Uint8Array): SpiStep<S>
  snapshot(chip: S): ChipState
  /** As of ChipModel. */
  poke(chip: S, what: string, value: unknown): S | null
}

export const NO_BYTES: Uint8Array = new Uint8Array(0)

/** Whether a poke's value is a number within these limits. */
export function isWithin(value: unknown, least: number, most: number): value is number {
  return typeof value === 'number' && value >= least && value <= most
}
