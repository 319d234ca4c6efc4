/**
 * The simulated SPI chips, one for each chip select. A chip keeps its state when its handle is closed and opened again.
 *
 * SPI has no acknowledge, and no chip can hold the bus. So of the faults of HANDLES 9.8 only `bad-data` exists here: a
 * chip without supply, or a MISO line that is disconnected.
 */

import type { SpiChipName } from '../../board/schema.ts'
import { HardwareError } from '../../errors.ts'
import type { ChipState, SpiChipModel } from './chips/chip.ts'
import { loopback } from './chips/loopback.ts'
import { mcp3008 } from './chips/mcp3008.ts'

/** Bytes that spidev accepts in one message (HANDLES 12.11). */
const MAX_MESSAGE = 4096

/** The state of every chip, for the runtime that goes on with it: by place, the model's name and its state. */
export type SavedSpiChips = [place: string, model: SpiChipName, state: unknown][]

interface Placed {
  readonly state: unknown
  transfer(bytes: Uint8Array): Uint8Array
  snapshot(): ChipState
  /** False when the chip does not know `what`, or `value` does not fit. */
  poke(what: string, value: unknown): boolean
}

const MODELS: Record<SpiChipName, (saved?: unknown) => Placed> = {
  loopback: (saved) => placed(loopback, saved),
  mcp3008: (saved) => placed(mcp3008, saved),
}

function placed<S>(model: SpiChipModel<S>, saved?: unknown): Placed {
  let { chip, bad } = (saved as { chip: S; bad: number } | undefined) ?? { chip: model.initial, bad: 0 }
  return {
    get state() {
      return { chip, bad }
    },
    transfer(bytes) {
      const step = model.transfer(chip, bytes)
      chip = step.next
      if (bad === 0) return step.bytes
      bad--
      return new Uint8Array(bytes.length).fill(0xff)
    },
    snapshot: () => ({ ...model.snapshot(chip), bad }),
    poke(what, value) {
      if (what === 'bad-data') {
        const count = value === true ? 1 : value
        if (!Number.isInteger(count) || (count as number) < 0) return false
        bad = count as number
        return true
      }
      const next = model.poke(chip, what, value)
      if (next !== null) chip = next
      return next !== null
    },
  }
}

export class SpiChips {
  readonly #chips = new Map<string, Placed>()
  readonly #models = new Map<string, SpiChipName>()

  constructor(saved: SavedSpiChips = []) {
    for (const [place, model, state] of saved) this.#put(place, model, state)
  }

  /** Adds a chip at `place`, as `spi-0.1`. A chip there keeps its state. Throws `no-device` for an unknown model. */
  place(place: string, model: SpiChipName | undefined): void {
    if (this.#chips.has(place)) return
    if (model === undefined || !Object.hasOwn(MODELS, model))
      throw new HardwareError('no-device', `${place}: no chip model ${model ?? 'given'}`)
    this.#put(place, model)
  }

  save(): SavedSpiChips {
    return [...this.#chips].map(([place, chip]) => [place, this.#models.get(place) as SpiChipName, chip.state])
  }

  #put(place: string, model: SpiChipName, saved?: unknown): void {
    this.#chips.set(place, MODELS[model](saved))
    this.#models.set(place, model)
  }

  /** One message; the answer has the same length. */
  transfer(place: string, bytes: Uint8Array): Uint8Array {
    if (bytes.length > MAX_MESSAGE) {
      const expected = `expected at most ${MAX_MESSAGE} bytes a message, got ${bytes.length}`
      throw new HardwareError('other', `${place}: ${expected}`)
    }
    return this.#chips.get(place)?.transfer(bytes) ?? new Uint8Array(bytes.length).fill(0xff)
  }

  snapshot(place: string): ChipState | null {
    return this.#chips.get(place)?.snapshot() ?? null
  }

  /** Throws `unsupported` when the chip does not know `what`, or `value` does not fit. */
  poke(place: string, what: string, value: unknown): void {
    if (this.#chips.get(place)?.poke(what, value)) return
    throw new HardwareError('unsupported', `${place}: cannot poke ${what} with ${JSON.stringify(value)}`)
  }
}
