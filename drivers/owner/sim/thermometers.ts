/** Invariant: what is read of a simulated sensor goes through the checks of a real one. */

import { HardwareError } from '../../errors.ts'
import { degreesOfScratchpad } from '../ds18b20.ts'
import type { ChipState } from './chips/chip.ts'
import { type Ds18b20, ds18b20 } from './chips/ds18b20.ts'

export class Thermometers {
  /** By their name on the bus. */
  readonly #chips = new Map<string, Ds18b20>()

  /** One that is there already keeps its state. */
  place(device: string): void {
    if (!this.#chips.has(device)) this.#chips.set(device, ds18b20.initial)
  }

  /** degrees C. Throws `no-device` and `bus`. */
  read(name: string, device: string): number {
    const { next, scratchpad } = ds18b20.read(this.#of(device))
    this.#chips.set(device, next)
    if (scratchpad !== null) return degreesOfScratchpad(name, scratchpad)
    throw new HardwareError('no-device', `${name}: ${device} is not there`)
  }

  /** As `read`, without a measurement: for who only looks. Undefined when there is none to be had. */
  look(device: string): number | undefined {
    const { scratchpad } = ds18b20.read(this.#of(device))
    try {
      return scratchpad === null ? undefined : degreesOfScratchpad(device, scratchpad)
    } catch {
      return undefined
    }
  }

  snapshot(device: string): ChipState {
    return ds18b20.snapshot(this.#of(device))
  }

  /** Throws `unsupported` when the sensor has no such thing to poke. */
  poke(device: string, what: string, value: unknown): void {
    const next = ds18b20.poke(this.#of(device), what, value)
    if (next === null) {
      throw new HardwareError('unsupported', `${device}: cannot poke ${what} with ${JSON.stringify(value)}`)
    }
    this.#chips.set(device, next)
  }

  #of(device: string): Ds18b20 {
    return this.#chips.get(device) ?? ds18b20.initial
  }
}
