/**
 * Register access as most I2C chips have it: the first byte of a write sets the pointer, further bytes go into
 * registers from there on, and a read continues where the last transfer ended.
 */
import { NO_BYTES, type TransferResult } from './chip.ts'

export interface Registers {
  readonly registers: Uint8Array
  readonly pointer: number
}

/** `put` stores one byte in `registers`, which is a copy, and returns the next pointer. */
export function writeFrom<S extends Registers>(
  chip: S,
  bytes: Uint8Array,
  put: (registers: Uint8Array, at: number, value: number) => number,
): S {
  const [first] = bytes
  if (first === undefined) return chip
  let pointer = first % chip.registers.length
  if (bytes.length === 1) return { ...chip, pointer }
  const registers = chip.registers.slice()
  for (let at = 1; at < bytes.length; at++) pointer = put(registers, pointer, bytes[at] as number)
  return { ...chip, registers, pointer }
}

/** `next` returns the pointer after a register; `value` is what the register reads as. */
export function readFrom<S extends Registers>(
  chip: S,
  length: number,
  next: (at: number) => number = (at) => (at + 1) % chip.registers.length,
  value: (at: number) => number = (at) => chip.registers[at] as number,
): TransferResult<S> {
  let { pointer } = chip
  const bytes = new Uint8Array(length)
  for (let at = 0; at < length; at++) {
    bytes[at] = value(pointer)
    pointer = next(pointer)
  }
  return { next: { ...chip, pointer }, bytes }
}

export const written = <S>(next: S): TransferResult<S> => ({ next, bytes: NO_BYTES })
