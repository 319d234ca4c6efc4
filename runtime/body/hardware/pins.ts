/** Reads, follows and pokes the handles, for `medulla get`, `watch` and `poke`. */
import type { PinChange } from '../../../deploy/shared/api.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { HardwareError } from '../../../drivers/errors.ts'
import type { Level } from '../../../drivers/program/handle.ts'
import type { Hardware } from './hardware.ts'
import type { HardwareOwner } from './owner.ts'

/** Time between two readings of the pins of a real board. */
const POLL_MS = 100

/** `accepted` false: the write was refused for its old fencing number. */
export type SeenChange = PinChange & { changed: boolean; accepted: boolean }

export class Pins {
  readonly #owner: HardwareOwner
  readonly #world: Hardware['world']

  constructor({ owner, world }: Pick<Hardware, 'owner' | 'world'>) {
    this.#owner = owner
    this.#world = world
  }

  /** The present value of each handle that has one. */
  present(names: readonly string[] | null = null): PinChange[] {
    const ns = String(process.hrtime.bigint())
    return [...this.#owner.all].flatMap((handle) => {
      const value = handle.value()
      const slot = this.#owner.holder(handle.name)
      if (value === undefined || names?.includes(handle.name) === false) return []
      return [{ name: handle.name, kind: handle.kind, value, ns, fence: 0, ...(slot === null ? {} : { slot }) }]
    })
  }

  /** Follows changes: every write of the simulated world, or a poll of a real board. */
  onChange(listener: (change: SeenChange) => void): () => void {
    const world = this.#world
    if (world === null) return this.#poll(listener)
    return world.onChange(({ name, kind, value, ns, fence, changed, accepted }) => {
      const slot = this.#owner.holder(name)
      const pin = { name, kind, value, ns: String(ns), fence, ...(slot === null ? {} : { slot }) }
      listener({ ...pin, changed, accepted })
    })
  }

  /** Presses a button or sets a sensor of a simulated board (HANDLES 9.11); `text` is JSON. Returns the handle's new value. */
  poke(name: string, what: string | null, text: string): PinChange | { name: string } {
    const world = this.#world
    if (world === null) {
      throw new Refusal('usage', 'this board is real: press the button itself', 'medulla pinout shows where it is')
    }
    const handle = this.#owner.find(name)
    const value = parsed(text)
    const driver = world.driverOf(name)
    if (driver !== null) {
      const message = `${name} is wired to ${driver} on this board, which drives it`
      throw new Refusal('wrong-kind', message, `take the wire out of the board file, or: medulla set ${driver} 1`)
    }
    try {
      if (handle.entry.kind === 'input' && what === null) world.pull(name, lineLevel(value, handle.entry.activeLow))
      else if (what === null)
        throw new Refusal('wrong-kind', `${name} is no input: name the quantity to poke`, 'medulla poke --help')
      else world.poke(name, what, value)
    } catch (error) {
      if (!(error instanceof HardwareError) && !(error instanceof RangeError) && !(error instanceof TypeError))
        throw error
      throw new Refusal('usage', error.message, 'medulla poke --help')
    }
    return this.present([name])[0] ?? { name }
  }

  /** On a real board programs write without the body, which sees a change only when it reads the level. */
  #poll(listener: (change: SeenChange) => void): () => void {
    const last = new Map<string, number>()
    const timer = setInterval(() => {
      for (const pin of this.present()) {
        const changed = last.get(pin.name) !== pin.value
        last.set(pin.name, pin.value)
        if (changed) listener({ ...pin, changed, accepted: true })
      }
    }, POLL_MS)
    return () => clearInterval(timer)
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Refusal('usage', `expected JSON, got ${text.slice(0, 80)}`, 'medulla poke --help')
  }
}

/** The level of the line for a level as the program reads it; null releases the line. */
function lineLevel(value: unknown, activeLow: boolean): Level | null {
  if (value === null) return null
  if (value !== 0 && value !== 1) {
    throw new Refusal('usage', `expected 0, 1 or release, got ${JSON.stringify(value)}`, 'medulla poke --help')
  }
  return (value === 1) === activeLow ? 0 : 1
}
