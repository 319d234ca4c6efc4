/** The interface of chip models: a chip is an immutable value, and every operation returns the next value. */

/** The state of a chip for people, in SI units. */
export type ChipState = Record<string, number | boolean | string | null | readonly number[] | readonly string[]>

type ChipFault = 'no-ack' | 'bus'

export type TransferResult<S> =
  | { readonly next: S; readonly bytes: Uint8Array }
  | { readonly next: S; readonly fault: ChipFault }

export interface ChipModel<S> {
  readonly initial: S
  /** One write transfer, as bytes after the address. */
  write(chip: S, bytes: Uint8Array): TransferResult<S>
  /** One read transfer of `length` bytes. */
  read(chip: S, length: number): TransferResult<S>
  snapshot(chip: S): ChipState
  /** Changes what the chip senses. Null when `what` is unknown or `value` does not fit. */
  poke(chip: S, what: string, value: unknown): S | null
}

export interface SpiTransferResult<S> {
  readonly next: S
  /** As many bytes as were sent. */
  readonly bytes: Uint8Array
}

/** A chip on SPI: bytes go both ways at once, and nothing is acknowledged. */
export interface SpiChipModel<S> {
  readonly initial: S
  /** One message, with the chip selected throughout. */
  transfer(chip: S, bytes: Uint8Array): SpiTransferResult<S>
  snapshot(chip: S): ChipState
  /** As in {@link ChipModel}. */
  poke(chip: S, what: string, value: unknown): S | null
}

export const NO_BYTES: Uint8Array = new Uint8Array(0)

/** True for a number within the limits. */
export function isWithin(value: unknown, least: number, most: number): value is number {
  return typeof value === 'number' && value >= least && value <= most
}
