/** Register access and checks that the device drivers share. */
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

/** Throws `no-device` for another chip. Accepts 0, which no chip has: a rehearsal reads zeros (HANDLES 12.15). */
export function checkIdentity(i2c: I2cDevice, at: number, chip: string, wanted: number): void {
  const got = readRegister(i2c, at)
  if (got === wanted || got === 0) return
  const text = `expected a ${chip} (identity 0x${wanted.toString(16)}), got identity 0x${got.toString(16)}`
  throw new HardwareError('no-device', `${i2c.name}: ${text}`)
}

/** The error for an invalid value. */
export function invalidValue(name: string, expected: string, got: unknown): HardwareError {
  return new HardwareError('other', `${name}: expected ${expected}, got ${String(got)}`)
}
