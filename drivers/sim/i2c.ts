/** Invariant: one transfer at a time, to one address; a chip that holds the bus holds it for all. */
import { HardwareError } from '../errors.ts'
import type { ChipModel, Step } from './chips/chip.ts'
import { type Mpu6050, mpu6050 } from './chips/mpu6050.ts'

/** The chips that a board file can name under `simulate`. */
const MODELS: Record<string, ChipModel<Mpu6050>> = { mpu6050 }

interface Placed {
  readonly model: ChipModel<Mpu6050>
  state: Mpu6050
}

export class I2cBus {
  readonly #bus: number
  readonly #chips = new Map<number, Placed>()
  transfers = 0

  constructor(bus: number) {
    this.#bus = bus
  }

  /** A chip that is there already keeps its state. Throws `no-device` for a model that is unknown. */
  place(address: number, model: string | undefined): void {
    if (this.#chips.has(address)) return
    const known = model === undefined ? undefined : MODELS[model]
    if (known === undefined) {
      throw new HardwareError('no-device', `${this.#at(address)}: no chip model ${model ?? 'given'}`)
    }
    this.#chips.set(address, { model: known, state: known.initial })
  }

  /** Writes, reads, or both with a repeated start. Throws `no-ack` when nobody answers, `bus` when it is stuck. */
  transfer(address: number, write: Uint8Array | null, length: number): Uint8Array {
    this.transfers++
    for (const { model, state } of this.#chips.values()) {
      if (model.snapshot(state).stuck) throw new HardwareError('bus', `i2c-${this.#bus}: the bus is stuck`)
    }
    const chip = this.#chips.get(address)
    if (chip === undefined) throw new HardwareError('no-ack', `${this.#at(address)}: no acknowledge`)
    if (write !== null) this.#take(address, chip, chip.model.write(chip.state, write))
    return length > 0 ? this.#take(address, chip, chip.model.read(chip.state, length)) : new Uint8Array(0)
  }

  snapshot(address: number): ReturnType<typeof mpu6050.snapshot> | null {
    const chip = this.#chips.get(address)
    return chip === undefined ? null : chip.model.snapshot(chip.state)
  }

  /** Throws `unsupported` when the chip has no such thing to poke. */
  poke(address: number, what: string, value: unknown): void {
    const chip = this.#chips.get(address)
    const next = chip?.model.poke(chip.state, what, value) ?? null
    if (chip === undefined || next === null) {
      throw new HardwareError('unsupported', `${this.#at(address)}: cannot poke ${what} with ${JSON.stringify(value)}`)
    }
    chip.state = next
  }

  #take(address: number, chip: Placed, step: Step<Mpu6050>): Uint8Array {
    chip.state = step.next
    if ('fault' in step)
      throw new HardwareError(
        step.fault,
        `${this.#at(address)}: ${step.fault === 'bus' ? 'the bus is stuck' : 'no acknowledge'}`,
      )
    return step.bytes
  }

  #at(address: number): string {
    return `i2c-${this.#bus}@0x${address.toString(16)}`
  }
}
