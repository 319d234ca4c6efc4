/**
 * Encodes a program of classic BPF for seccomp(2). Pure: instructions in, bytes out.
 *
 * Source: Documentation/userspace-api/seccomp_filter.rst, linux/bpf_common.h. Every block ends with a return, so jumps go
 * forward only.
 */

/** struct sock_filter: code, jump if true, jump if false, operand. */
export type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, operand: number]

export const BPF = { load: 0x20, eq: 0x15, ge: 0x35, set: 0x45, ret: 0x06 } as const
/** Offsets in struct seccomp_data. */
export const DATA = { nr: 0, arch: 4, arg: (n: number) => 16 + 8 * n } as const
export const RET = {
  allow: 0x7fff0000,
  kill: 0x80000000,
  errno: (errno: number) => 0x00050000 | errno,
} as const

const MAX_JUMP = 255
const MAX_LENGTH = 4096
const SIZE = 8

/**
 * Loads the 32-bit word at an offset of struct seccomp_data. For an argument this is the low half, as x64 and arm64 are
 * little endian. The kernel reads only that half of an int argument too, so a caller cannot hide a value in the high half.
 */
export const load = (offset: number): Instruction => [BPF.load, 0, 0, offset]
export const ret = (action: number): Instruction => [BPF.ret, 0, 0, action]

/** Runs `block` when the loaded word passes the test for one of `operands`. The block must end with a return. */
export function when(test: 'eq' | 'ge' | 'set', operands: readonly number[], block: readonly Instruction[]) {
  if (operands.length > MAX_JUMP || block.length > MAX_JUMP) throw new RangeError('a jump of a filter is too far')
  return [
    ...operands.map((operand, index): Instruction => {
      const left = operands.length - 1 - index
      return [BPF[test], left, left === 0 ? block.length : 0, operand]
    }),
    ...(operands.length > 0 ? block : []),
  ]
}

/** The program as an array of struct sock_filter. */
export function encode(program: readonly Instruction[]): Uint8Array {
  if (program.length > MAX_LENGTH) throw new RangeError(`a filter has at most ${MAX_LENGTH} instructions`)
  const bytes = new Uint8Array(program.length * SIZE)
  const view = new DataView(bytes.buffer)
  for (const [index, [code, ifTrue, ifFalse, operand]] of program.entries()) {
    view.setUint16(index * SIZE, code, true)
    view.setUint8(index * SIZE + 2, ifTrue)
    view.setUint8(index * SIZE + 3, ifFalse)
    view.setUint32(index * SIZE + 4, operand, true)
  }
  return bytes
}
