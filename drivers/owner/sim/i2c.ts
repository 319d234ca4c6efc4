/** A simulated I2C bus with its chips. A chip that holds the data line low blocks the bus for all of them. */

import type { ChipName } from '../../board/schema.ts'
import { HardwareError } from '../../errors.ts'
import { ads1115 } from './chips/ads1115.ts'
import { bme280 } from './chips/bme280.ts'
import type { ChipModel, ChipState, Step } from './chips/chip.ts'
import { eeprom24c32 } from './chips/eeprom24c32.ts'
import { withFaults } from './chips/faults.ts'
import { mpu6050 } from './chips/mpu6050.ts'
import { pca9685 } from './chips/pca9685.ts'
import { pcf8574 } from './chips/pcf8574.ts'
import { ssd1306 } from './chips/ssd1306.ts'
import { vl53l0x } from './chips/vl53l0x.ts'

/** A chip on the bus, with its current state. Chip models are pure, so this is the only place where state changes. */
interface Placed {
  /** The chip holds the data line low. */
  readonly stuck: boolean
  write(bytes: Uint8Array): Uint8Array
  read(length: number): Uint8Array
  snapshot(): ChipState
  /** False when the chip does not know `what`, or `value` does not fit. */
  poke(what: string, value: unknown): boolean
}

const MODELS: Record<ChipName, (at: string) => Placed> = {
  ads1115: (at) => placed(at, ads1115),
  '24c32': (at) => placed(at, eeprom24c32),
  bme280: (at) => placed(at, bme280),
  mpu6050: (at) => placed(at, mpu6050),
  pca9685: (at) => placed(at, pca9685),
  pcf8574: (at) => placed(at, pcf8574),
  ssd1306: (at) => placed(at, ssd1306),
  vl53l0x: (at) => placed(at, vl53l0x),
}

function placed<S>(at: string, chip: ChipModel<S>): Placed {
  const model = withFaults(chip)
  let state = model.initial
  const take = (step: Step<typeof state>): Uint8Array => {
    state = step.next
    if (!('fault' in step)) return step.bytes
    throw new HardwareError(step.fault, `${at}: ${step.fault === 'bus' ? 'the bus is stuck' : 'no acknowledge'}`)
  }
  return {
    get stuck() {
      return state.stuck
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

export class I2cBus {
  readonly #bus: number
  readonly #chips = new Map<number, Placed>()
  transfers = 0

  constructor(bus: number) {
    this.#bus = bus
  }

  /** Puts a chip on the bus. A chip at that address keeps its state. Throws `no-device` for an unknown model. */
  place(address: number, model: string | undefined): void {
    if (this.#chips.has(address)) return
    const known: ((at: string) => Placed) | undefined = MODELS[model as ChipName]
    if (known === undefined) {
      throw new HardwareError('no-device', `${this.#at(address)}: no chip model ${model ?? 'given'}`)
    }
    this.#chips.set(address, known(this.#at(address)))
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
