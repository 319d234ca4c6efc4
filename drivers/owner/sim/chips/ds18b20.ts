/**
 * Model of the temperature sensor DS18B20, after its data sheet (Maxim 19-7487, figures 4 and 9).
 *
 * Modelled: the temperature at 12 bits, the power-on value, the checksum, and the common faults: `nack-next` (no answer
 * to the reset pulse), `bad-data` (a bit is wrong), `stuck-bus` (the data line is low). Not modelled: the time of a
 * conversion, alarms, resolutions, parasite power, the search of the bus.
 */
import { crc8 } from '../../ds18b20.ts'
import { type ChipState, isWithin } from './chip.ts'

export interface Ds18b20State {
  /** degrees C */
  readonly temperature: number
  /** Reads still to come that get no answer. */
  readonly nacks: number
  /** Reads still to come with a wrong bit. */
  readonly bad: number
  readonly stuck: boolean
  /** The sensor was without supply: the next read shows the power-on value. */
  readonly fresh: boolean
}

const initial: Ds18b20State = { temperature: 20, nacks: 0, bad: 0, stuck: false, fresh: false }

/** Converts and reads the nine bytes of the scratchpad; null: no answer. */
function read(chip: Ds18b20State): { next: Ds18b20State; scratchpad: Uint8Array | null } {
  if (chip.stuck) return { next: chip, scratchpad: new Uint8Array(9) }
  if (chip.nacks > 0) return { next: { ...chip, nacks: chip.nacks - 1 }, scratchpad: null }
  const raw = chip.fresh ? 0x0550 : Math.round(chip.temperature * 16)
  // delivery state: alarms at 75 and 70 C, 12 bits
  const reserved = chip.fresh ? 0x0c : 0x10 - (raw & 0x0f)
  const bytes = Uint8Array.of(raw & 0xff, (raw >> 8) & 0xff, 0x4b, 0x46, 0x7f, 0xff, reserved, 0x10, 0)
  bytes[8] = crc8(bytes.subarray(0, 8))
  const next = { ...chip, fresh: false }
  if (chip.bad === 0) return { next, scratchpad: bytes }
  bytes[0] = (bytes[0] as number) ^ 0x10
  return { next: { ...next, bad: chip.bad - 1 }, scratchpad: bytes }
}

const snapshot = (chip: Ds18b20State): ChipState => ({ ...chip })

/** `temperature`: degrees C, -55 to 125; `power-on`: true. Null when `what` is unknown or `value` does not fit. */
function poke(chip: Ds18b20State, what: string, value: unknown): Ds18b20State | null {
  if (what === 'temperature') return isWithin(value, -55, 125) ? { ...chip, temperature: value } : null
  if (what === 'power-on') return value === true ? { ...chip, fresh: true } : null
  if (what === 'stuck-bus') return typeof value === 'boolean' ? { ...chip, stuck: value } : null
  if (what !== 'nack-next' && what !== 'bad-data') return null
  const count = value === true ? 1 : value
  if (!isWithin(count, 0, Number.MAX_SAFE_INTEGER) || !Number.isInteger(count)) return null
  return { ...chip, [what === 'nack-next' ? 'nacks' : 'bad']: count }
}

export const ds18b20 = { initial, read, snapshot, poke }
