/** What the handles are driven to, for whoever looks. */
import type { PinChange } from '../../deploy/api.ts'
import type { Hardware } from './hardware.ts'
import type { Owner } from './owner.ts'

/** Between two looks at the pins of a real board, for who follows them. */
const POLL_MS = 100

/** `accepted` false: the fence refused it. */
export type SeenChange = PinChange & { changed: boolean; accepted: boolean }

export class Pins {
  readonly #owner: Owner
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

  /** Every write and every level of the simulated world, with whether it changed anything and whether it was accepted. */
  onChange(listener: (change: SeenChange) => void): () => void {
    const world = this.#world
    if (world === null) return this.#poll(listener)
    return world.onChange(({ name, kind, value, ns, fence, changed, accepted }) => {
      const slot = this.#owner.holder(name)
      const pin = { name, kind, value, ns: String(ns), fence, ...(slot === null ? {} : { slot }) }
      listener({ ...pin, changed, accepted })
    })
  }

  /** Programs write past the body there: what it sees is the level now and then. */
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
