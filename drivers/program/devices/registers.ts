/** Invariant: a chip is written to only where a register is not as it should be (HANDLES 12.14). */
import { HardwareError } from '../../errors.ts'
import type { I2cDevice } from '../handle.ts'

export function readRegisters(i2c: I2cDevice, at: number, length: number): Uint8Array {
  return i2c.writeRead(Uint8Array.of(at), length)
}

export function readRegister(i2c: I2cDevice, at: number): number {
  return readRegisters(i2c, at, 1)[0] ?? 0
}

export function writeRegister(i2c: I2cDevice, at: number, value: number): void {
  i2c.write(Uint8Array.of(at, value))
}

/** Throws `no-device` when another chip is there. 0 is what a rehearsal reads, and no chip's identity (HANDLES 12.15). */
export function checkIdentity(i2c: I2cDevice, at: number, chip: string, wanted: number): void {
  const got = readRegister(i2c, at)
  if (got === wanted || got === 0) return
  const text = `expected a ${chip} (identity 0x${wanted.toString(16)}), got identity 0x${got.toString(16)}`
  throw new HardwareError('no-device', `${i2c.name}: ${text}`)
}

/** A refusal of a value that is none, in the words of all devices. */
export function unexpected(name: string, expected: string, got: unknown): HardwareError {
  return new HardwareError('other', `${name}: expected ${expected}, got ${String(got)}`)
}
