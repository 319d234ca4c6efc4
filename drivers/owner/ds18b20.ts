/**
 * Decodes the temperature of a DS18B20, from its scratchpad or from the text of the kernel driver w1_therm.
 *
 * Invariant: a scratchpad with a wrong checksum or without a conversion gives an error, never a temperature
 * (test/drivers/program/temperature.test.ts).
 *
 * Data sheet Maxim 19-7487: figure 4 (temperature register), figure 9 (scratchpad), "CRC generation". The kernel's file
 * `w1_slave` (Documentation/w1/slaves/w1_therm.rst) has the nine bytes in hex, `: crc=57 YES`, and the bytes again with
 * `t=23125`. Reading the file starts a conversion and returns 750 ms later.
 */
import { HardwareError } from '../errors.ts'

const BYTES = 9
/** Figure 9: the temperature register holds +85 C after power-on. */
const POWER_ON = 0x0550
/** Byte 6 is 0x0c after power-on; after a conversion it is 16 less the lowest four bits of the temperature, so 0x10 at 85 C. */
const [RESERVED, NEVER_CONVERTED] = [6, 0x0c]

/** "CRC generation": x^8 + x^5 + x^4 + 1, lowest bit first. */
export function crc8(bytes: Uint8Array): number {
  let crc = 0
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >> 1) ^ 0x8c : crc >> 1
  }
  return crc
}

/** degrees C of a scratchpad. Throws `bus` when it is damaged, or holds no conversion. */
export function degreesOfScratchpad(name: string, bytes: Uint8Array): number {
  const fault = (why: string) => new HardwareError('bus', `${name}: ${why}`)
  if (bytes.length !== BYTES) throw fault(`expected ${BYTES} bytes from the sensor, got ${bytes.length}`)
  // a line that is held low reads as zeros, and the checksum of zeros is 0: the checksum test would pass
  if (bytes.every((byte) => byte === 0)) throw fault('the 1-wire bus is stuck low: is its data line shorted to ground?')
  if (crc8(bytes.subarray(0, BYTES - 1)) !== bytes[BYTES - 1]) {
    throw fault('the checksum is wrong: is there a resistor of 4.7 kOhm from the data line to 3.3 V?')
  }
  const raw = ((bytes[0] as number) | ((bytes[1] as number) << 8)) << 16
  if (raw >> 16 === POWER_ON && bytes[RESERVED] === NEVER_CONVERTED) {
    throw fault('the sensor shows 85 C, its value after power-on, not a measurement: is its supply weak?')
  }
  // 1/16 C, two's complement
  return (raw >> 16) / 16
}

/** degrees C of the kernel's text. Throws `bus` as {@link degreesOfScratchpad} does. */
export function degreesOfText(name: string, text: string): number {
  const [first = ''] = text.split('\n')
  const hex = /^((?:[0-9a-f]{2} ){9}): crc=[0-9a-f]{2} (?:YES|NO)$/.exec(first)?.[1]
  if (hex === undefined) throw new HardwareError('bus', `${name}: the kernel read nothing from the sensor`)
  return degreesOfScratchpad(
    name,
    Uint8Array.from(hex.trim().split(' '), (byte) => Number.parseInt(byte, 16)),
  )
}
