/** A simulated I2C bus with its chips. A chip that holds the data line low blocks the bus for all of them. */

import type { ChipName } from '../../board/schema.ts'
import { HardwareError } from '../../errors.ts'
import { ads1115 } from './chips/ads1115.ts'
import { bme280 } from './chips/bme280.ts'
import type { ChipModel, ChipState, TransferResult } from './chips/chip.ts'
import { eeprom24c32 } from './chips/eeprom24c32.ts'
import { withFaults } from './chips/faults.ts'
import { mpu6050 } from './chips/mpu6050.ts'
import { pca9685 } from './chips/pca9685.ts'
import { pcf8574 } from './chips/pcf8574.ts'
import { ssd1306 } from './chips/ssd1306.ts'
import { vl53l0x } from './chips/vl53l0x.ts'

/** The state of every chip of a bus, for the runtime that goes on with it: by address, the model's name and its state. */
export type SavedChips = [address: number, model: ChipName, state: unknown][]

/** A chip on the bus, with its current state. Chip models are pure, so this is the only place where state changes. */
interface Placed {
  /** The chip holds the data line low. */
  readonly stuck: boolean
  readonly state: unknown
  write(bytes: Uint8Array): Uint8Array
  read(length: number): Uint8Array
  snapshot(): ChipState
  /** False when the chip does not know `what`, or `value` does not fit. */
  poke(what: string, value: unknown): boolean
}

const MODELS: Record<ChipName, (at: string, saved?: unknown) => Placed> = {
  ads1115: (at, saved) => placed(at, ads1115, saved),
  '24c32': (at, saved) => placed(at, eeprom24c32, saved),
  bme280: (at, saved) => placed(at, bme280, saved),
  mpu6050: (at, saved) => placed(at, mpu6050, saved),
  pca9685: (at, saved) => placed(at, pca9685, saved),
  pcf8574: (at, saved) => placed(at, pcf8574, saved),
  ssd1306: (at, saved) => placed(at, ssd1306, saved),
  vl53l0x: (at, saved) => placed(at, vl53l0x, saved),
}

function placed<S>(at: string, chip: ChipModel<S>, saved?: unknown): Placed {
  const model = withFaults(chip)
  let state = (saved as typeof model.initial | undefined) ?? model.initial
  const take = (step: TransferResult<typeof state>): Uint8Array => {
    state = step.next
    if (!('fault' in step)) return step.bytes
    throw new HardwareError(step.fault, `${at}: ${step.fault === 'bus' ? 'the bus is stuck' : 'no acknowledge'}`)
  }
  return {
    get stuck() {
      return state.stuck
    },
    get state() {
      return state
    },
    write: (bytes) => take(model.write(state, bytes)),
    read: (length) => take(model.read(state, length)),
    snapshot: () => model.snapshot(state),
    poke(what, value) {
      const next = model.poke(state, what, value)
      if (next !== null) state = next
      return next !== null
    },
  }
}

export class SimulatedI2cBus {
  readonly #bus: number
  readonly #chips = new Map<number, Placed>()
  readonly #models = new Map<number, ChipName>()
  transfers = 0

  constructor(bus: number, saved: SavedChips = []) {
    this.#bus = bus
    for (const [address, model, state] of saved) this.#put(address, model, state)
  }

  /** Puts a chip on the bus. A chip at that address keeps its state. Throws `no-device` for an unknown model. */
  place(address: number, model: string | undefined): void {
    if (this.#chips.has(address)) return
    if (model === undefined || !Object.hasOwn(MODELS, model)) {
      throw new HardwareError('no-device', `${this.#at(address)}: no chip model ${model ?? 'given'}`)
    }
    this.#put(address, model as ChipName)
  }

  save(): SavedChips {
    return [...this.#chips].map(([address, chip]) => [address, this.#models.get(address) as ChipName, chip.state])
  }

  #put(address: number, model: ChipName, saved?: unknown): void {
    this.#chips.set(address, MODELS[model](this.#at(address), saved))
    this.#models.set(address, model)
  }

  /** Writes, reads, or both with a repeated start. Throws `no-ack` when no chip answers, `bus` for a stuck bus. */
  transfer(address: number, write: Uint8Array | null, length: number): Uint8Array {
    this.transfers++
    for (const chip of this.#chips.values()) {
      if (chip.stuck) throw new HardwareError('bus', `i2c-${this.#bus}: the bus is stuck`)
    }
    const chip = this.#chips.get(address)
    if (chip === undefined) throw new HardwareError('no-ack', `${this.#at(address)}: no acknowledge`)
    if (write !== null) chip.write(write)
    return length > 0 ? chip.read(length) : new Uint8Array(0)
  }

  snapshot(address: number): ChipState | null {
    return this.#chips.get(address)?.snapshot() ?? null
  }

  /** Throws `unsupported` when the chip does not know `what`, or `value` does not fit. */
  poke(address: number, what: string, value: unknown): void {
    if (this.#chips.get(address)?.poke(what, value)) return
    throw new HardwareError('unsupported', `${this.#at(address)}: cannot poke ${what} with ${JSON.stringify(value)}`)
  }

  #at(address: number): string {
    return `i2c-${this.#bus}@0x${address.toString(16)}`
  }
}
