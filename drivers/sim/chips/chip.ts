/**
 * Invariant: a simulated chip is a pure value; every operation gives the next value and changes nothing.
 */

type ChipFault = 'no-ack' | 'bus'

export type Step<S> = { readonly next: S; readonly bytes: Uint8Array } | { readonly next: S; readonly fault: ChipFault }

export interface ChipModel<S> {
  readonly initial: S
  /** One write transfer, as bytes after the address. */
  write(chip: S, bytes: Uint8Array): Step<S>
  /** One read transfer of `length` bytes. */
  read(chip: S, length: number): Step<S>
  /** What a person wants to know of it, in SI units. */
  snapshot(chip: S): Record<string, number | boolean | readonly number[]>
  /** Changes what the chip senses, or gives it a named fault. Null when `what` is unknown or `value` does not fit. */
  poke(chip: S, what: string, value: unknown): S | null
}
