/**
 * Invariant: a resource is opened once, here, and stays open until the body ends; no swap opens, exports, requests or
 * configures a device (design invariant "Hardware", HANDLES 3).
 */

import type { SlotStatus } from '../../../deploy/shared/api.ts'
import type { RobotFacts } from '../../../deploy/shared/bundle/policy.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { chipOf, placeOf } from '../../../drivers/board/places.ts'
import type { Board } from '../../../drivers/board/types.ts'
import { HardwareError } from '../../../drivers/errors.ts'
import type { Backend, Kept, OwnedHandle } from '../../../drivers/owner/backend.ts'
import { checkedValue, safeValue } from '../../../drivers/owner/values.ts'
import { isDriven, type LastEdge } from '../../../drivers/program/handle.ts'

export class Owner {
  readonly #handles = new Map<string, OwnedHandle>()
  readonly #leases = new Map<string, string>()
  /** The last edge of each input that had one. */
  readonly #edges = new Map<string, LastEdge>()
  readonly #backend: Backend
  readonly #next: () => number
  #newest = 0

  /** `nextFence` gives numbers that rise over the robot's life (HANDLES 3.12). What was `kept` is adopted (HANDLES 3.9). */
  constructor(backend: Backend, board: Board, nextFence: () => number, kept: ReadonlyMap<string, Kept> = new Map()) {
    this.#backend = backend
    this.#next = nextFence
    try {
      Object.entries(board.handles).forEach(([name, entry], i) => {
        const had = kept.get(name)
        const handle = had === undefined ? backend.open(name, i + 1, entry) : backend.adopt(name, i + 1, entry, had)
        this.#handles.set(name, handle)
        if (entry.kind === 'input') handle.onEdge(({ level, ns }) => this.#edges.set(name, { level, ns: Number(ns) }))
      })
    } catch (error) {
      backend.close()
      throw error
    }
  }

  get all(): IterableIterator<OwnedHandle> {
    return this.#handles.values()
  }

  /** Board names and kinds, for policy. */
  kinds(): Record<string, string> {
    return Object.fromEntries([...this.#handles].map(([name, { kind }]) => [name, kind]))
  }

  /** Handles that are not to be had because another slot holds them, or another input of the same converter. */
  leasedByOthers(slot: string): RobotFacts['leased'] {
    const leased: RobotFacts['leased'] = {}
    for (const [holds, holder] of this.#leases) {
      if (holder === slot) continue
      for (const name of this.#together(holds)) leased[name] ??= { slot: holder, holds }
      leased[holds] = { slot: holder, holds }
    }
    return leased
  }

  /** HANDLES 16.3: the inputs of the converter that a handle is an input of. */
  #together(name: string): string[] {
    const entry = this.#handles.get(name)?.entry
    if (entry?.kind !== 'analog') return []
    const all = [...this.#handles.values()]
    return all
      .filter((other) => other.entry.kind === 'analog' && chipOf(other.entry) === chipOf(entry))
      .map((other) => other.name)
  }

  /** Policy has refused what is missing or leased; this is the second look (HANDLES 3.11). */
  take(names: readonly string[], slot: string): OwnedHandle[] {
    const leased = this.leasedByOthers(slot)
    return names.map((name) => {
      const handle = this.#handles.get(name)
      if (handle === undefined) throw new Refusal('missing-handle', `this board has no handle ${name}`)
      const other = leased[name]
      if (other !== undefined) {
        const how = other.holds === name ? '' : `goes together with ${other.holds}, which `
        throw new Refusal('handle-leased', `${name} ${how}is leased to slot ${other.slot}`)
      }
      this.#leases.set(name, slot)
      return handle
    })
  }

  /** Keeps only these names leased to the slot. */
  keep(names: readonly string[], slot: string): void {
    for (const [name, holder] of this.#leases) if (holder === slot && !names.includes(name)) this.#leases.delete(name)
  }

  holder(name: string): string | null {
    return this.#leases.get(name) ?? null
  }

  held(slot: string): OwnedHandle[] {
    return [...this.#handles.values()].filter((handle) => this.#leases.get(handle.name) === slot)
  }

  /** What the slot's handles are driven to now; one that cannot be asked is left out. */
  values(slot: string): Record<string, number> {
    const values: Record<string, number> = {}
    for (const handle of this.held(slot)) {
      if (!isDriven(handle.kind)) continue
      try {
        values[handle.name] = handle.value() ?? 0
      } catch {
        // its next write will say so
      }
    }
    return values
  }

  /** The last edges of the slot's inputs (HANDLES 3.13). */
  edges(slot: string): Record<string, LastEdge> {
    const edges = [...this.#edges].filter(([name]) => this.#leases.get(name) === slot)
    return Object.fromEntries(edges)
  }

  /** What `status` says of a slot's handles. */
  report(slot: string): SlotStatus['handles'] {
    return this.held(slot).map((handle) => {
      const value = handle.value()
      const { name, kind, entry, link } = handle
      const lateness = this.#backend.info(name)?.lateness
      return {
        name,
        kind,
        place: link ?? placeOf(entry),
        via: handle.grant().via,
        ...(value === undefined ? {} : { value }),
        ...(lateness === undefined ? {} : { lateness }),
      }
    })
  }

  /** A new fencing number, allowed from now on. */
  nextFence(): number {
    this.#newest = this.#next()
    this.#backend.advance(this.#newest, [])
    return this.#newest
  }

  /** From here on only this fence or a later one may write the slot's handles. */
  raise(slot: string, fence: number): void {
    const names = this.held(slot).map((handle) => handle.name)
    this.#backend.advance(fence, names)
  }

  /** Drives declared safe levels of a slot's handles, as the body, under a fence of its own (HANDLES 6.2). */
  safe(slot: string): void {
    this.#drive(this.held(slot))
  }

  /** The same for every handle of the board. */
  safeAll(): void {
    this.#drive([...this.#handles.values()])
  }

  /** Throws `missing-handle`. */
  find(name: string): OwnedHandle {
    const handle = this.#handles.get(name)
    if (handle !== undefined) return handle
    const known = [...this.#handles.keys()].join(', ') || 'none'
    throw new Refusal('missing-handle', `this board has no handle ${name}; it has: ${known}`, 'medulla get')
  }

  /** HANDLES 6.10: an operator's own write, of a handle that no slot holds. Answers the handle. */
  set(name: string, value: number): OwnedHandle {
    const handle = this.find(name)
    const holder = this.holder(name)
    if (holder !== null) {
      const hint = `medulla stop --slot ${holder}`
      throw new Refusal('handle-leased', `${name} is leased to slot ${holder}, whose program writes it`, hint)
    }
    const taken = settable(handle, value)
    const fence = this.nextFence()
    this.#backend.advance(fence, [name])
    handle.drive(taken, fence)
    return handle
  }

  /** Safe levels are driven also when the disk gives no number: those who wrote under the newest one were stopped before. */
  #ownFence(): number {
    try {
      return this.nextFence()
    } catch {
      return this.#newest
    }
  }

  /** One that fails keeps none of the others from theirs. */
  #drive(handles: readonly OwnedHandle[]): void {
    const fence = this.#ownFence()
    this.#backend.advance(
      fence,
      handles.map(({ name }) => name),
    )
    const failures: unknown[] = []
    for (const handle of handles) {
      const safe = safeValue(handle.entry)
      if (safe === null) continue
      try {
        handle.drive(safe, fence)
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw new AggregateError(failures, `safe levels: ${failures.map(String).join('; ')}`)
  }

  close(): void {
    for (const handle of this.#handles.values()) handle.close()
    this.#backend.close()
  }
}

/** Not put to its limit, as a program's write would be: whoever types it is told. */
function settable({ name, entry }: OwnedHandle, value: number): number {
  let taken: number
  try {
    taken = checkedValue(name, entry, value)
  } catch (error) {
    if (!(error instanceof HardwareError)) throw error
    throw new Refusal(error.kind === 'unsupported' ? 'wrong-kind' : 'usage', error.message, 'medulla get')
  }
  if (taken === value) return taken
  throw new Refusal('usage', `${name}: ${value} is beyond its limit, which is ${taken}`)
}
