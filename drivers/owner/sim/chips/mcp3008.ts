/**
 * Model of the analog-to-digital converter MCP3008, clock by clock, after the data sheet "MCP3004/3008" (Microchip
 * DS21295D). The start bit may be anywhere in the message.
 *
 * Section 5.0 and figure 5-1: the first clock with DIN high after chip select is the start bit. SGL/DIFF, D2, D1 and D0
 * follow. Two clocks later the output leaves its high impedance with a null bit. Then come B9 to B0, B1 to B9, and
 * zeros. Table 5-2 has the inputs, equation 4-2 the code. Not modelled: the time of the sample capacitor, errors of
 * conversion, the speed. While the output is in high impedance, the line reads as ones.
 */
import { type ChipState, isWithin, type SpiChipModel, type SpiTransferResult } from './chip.ts'

const CHANNELS = 8
const STEPS = 1024
/** Positions of output bits, in clocks after the start bit. */
const NULL_BIT = 6
const LOWEST_BIT = NULL_BIT + 10
/** V; "Absolute Maximum Ratings", with a supply of 5.5 V */
const INPUT = [-0.6, 6.1] as const
/** V; "Electrical Characteristics", reference input */
const REFERENCE = [0.25, 5.5] as const

export interface Mcp3008State {
  /** V of the eight inputs against ground. */
  readonly volts: readonly number[]
  /** V at VREF. */
  readonly reference: number
  readonly conversions: number
}

const initial: Mcp3008State = { volts: Array(CHANNELS).fill(0), reference: 3.3, conversions: 0 }

/** The conversion result. `control` is the four bits after the start bit (table 5-2). */
function code({ volts, reference }: Mcp3008State, control: number): number {
  const channel = control & 7
  const single = (control & 8) !== 0
  // in a pair, the selected input is the positive one
  const across = (volts[channel] as number) - (single ? 0 : (volts[channel ^ 1] as number))
  return Math.max(0, Math.min(STEPS - 1, Math.floor((STEPS * across) / reference + 1e-9)))
}

function transfer(chip: Mcp3008State, bytes: Uint8Array): SpiTransferResult<Mcp3008State> {
  const out = new Uint8Array(bytes.length).fill(0xff)
  const bit = (clock: number): number => ((bytes[clock >> 3] as number) >> (7 - (clock & 7))) & 1
  const clocks = bytes.length * 8
  let start = 0
  while (start < clocks && bit(start) === 0) start++
  if (start + 4 >= clocks) return { next: chip, bytes: out }
  const control = (bit(start + 1) << 3) | (bit(start + 2) << 2) | (bit(start + 3) << 1) | bit(start + 4)
  const value = code(chip, control)
  for (let clock = start + NULL_BIT; clock < clocks; clock++) {
    const after = clock - start
    const place = after <= LOWEST_BIT ? LOWEST_BIT - after : after - LOWEST_BIT
    if (after === NULL_BIT || place > 9 || ((value >> place) & 1) === 0) {
      out[clock >> 3] = (out[clock >> 3] as number) & ~(0x80 >> (clock & 7))
    }
  }
  return { next: { ...chip, conversions: chip.conversions + 1 }, bytes: out }
}

const snapshot = ({ volts, reference, conversions }: Mcp3008State): ChipState => ({ volts, reference, conversions })

/** `volts`: a list for all eight inputs; `ch0` to `ch7`: V of one input; `reference`: V at VREF. */
function poke(chip: Mcp3008State, what: string, value: unknown): Mcp3008State | null {
  if (what === 'reference') return isWithin(value, ...REFERENCE) ? { ...chip, reference: value } : null
  if (what === 'volts') {
    const fits = Array.isArray(value) && value.length === CHANNELS && value.every((each) => isWithin(each, ...INPUT))
    return fits ? { ...chip, volts: [...value] } : null
  }
  const channel = /^ch([0-7])$/.exec(what)?.[1]
  if (channel === undefined || !isWithin(value, ...INPUT)) return null
  return { ...chip, volts: chip.volts.with(Number(channel), value) }
}

export const mcp3008: SpiChipModel<Mcp3008State> = { initial, transfer, snapshot, poke }
