/** Interprets a BPF filter as the kernel does (net/core/filter.c), to see its decisions without installing it. */
import { BPF, type Instruction } from '../../../runtime/sdk/bpf.ts'

export interface Call {
  nr: number
  /** AUDIT_ARCH */
  arch: number
  /** up to six arguments of 64 bits */
  args?: readonly (number | bigint)[]
}

/** The returned action. Throws when a jump leaves the filter. `onLoad` is called with each loaded offset. */
export function decide(
  program: readonly Instruction[],
  { nr, arch, args = [] }: Call,
  onLoad: (offset: number) => void = () => {},
): number {
  const data = new DataView(new ArrayBuffer(64))
  data.setUint32(0, nr, true)
  data.setUint32(4, arch, true)
  for (const [n, arg] of args.entries()) data.setBigUint64(16 + 8 * n, BigInt.asUintN(64, BigInt(arg)), true)
  let a = 0
  for (let at = 0; at < program.length; at++) {
    const [code, ifTrue, ifFalse, operand] = program[at] as Instruction
    if (code === BPF.ret) return operand
    if (code === BPF.load) {
      onLoad(operand)
      a = data.getUint32(operand, true)
    } else {
      const wide = BigInt(a) & BigInt(operand)
      const passed = code === BPF.eq ? a === operand : code === BPF.ge ? a >= operand : wide !== 0n
      at += passed ? ifTrue : ifFalse
    }
  }
  throw new Error('the filter ends without a decision')
}
