/** The simulated 1-wire temperature sensors. Their scratchpads go through the same checks as those of real ones. */

import { HardwareError } from '../../errors.ts'
import { degreesOfScratchpad } from '../ds18b20.ts'
import type { ChipState } from './chips/chip.ts'
import { type Ds18b20State, ds18b20 } from './chips/ds18b20.ts'

export class Thermometers {
  /** By their id on the bus. */
  readonly #chips: Map<string, Ds18b20State>

  constructor(saved: readonly (readonly [device: string, state: Ds18b20State])[] = []) {
    this.#chips = new Map(saved)
  }

  /** The state of every sensor, for the runtime that goes on with it. */
  save(): [device: string, state: Ds18b20State][] {
    return [...this.#chips]
  }

  /** Adds a sensor. An existing sensor keeps its state. */
  place(device: string): void {
    if (!this.#chips.has(device)) this.#chips.set(device, ds18b20.initial)
  }

  /** Measures: degrees C. Throws `no-device` or `bus`. */
  read(name: string, device: string): number {
    const { next, scratchpad } = ds18b20.read(this.#of(device))
    this.#chips.set(device, next)
    if (scratchpad !== null) return degreesOfScratchpad(name, scratchpad)
    throw new HardwareError('no-device', `${name}: ${device} is not there`)
  }

  /** degrees C without a measurement, so that no injected fault is used up. undefined when a read would fail. */
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

  /** Throws `unsupported` when the sensor does not know `what`, or `value` does not fit. */
  poke(device: string, what: string, value: unknown): void {
    const next = ds18b20.poke(this.#of(device), what, value)
    if (next === null) {
      throw new HardwareError('unsupported', `${device}: cannot poke ${what} with ${JSON.stringify(value)}`)
    }
    this.#chips.set(device, next)
  }

  #of(device: string): Ds18b20State {
    return this.#chips.get(device) ?? ds18b20.initial
  }
}
