/**
 * Invariant: a resource is opened once, here, and stays open until the body ends; no swap opens, exports, requests or
 * configures a device (HANDLES 3.1; test/drivers/owner/sim/backend.test.ts).
 */
import type { SlotStatus } from '../../../deploy/shared/api.ts'
import type { RobotFacts } from '../../../deploy/shared/bundle/policy.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { chipOf, placeOf } from '../../../drivers/board/places.ts'
import type { Board } from '../../../drivers/board/types.ts'
import { HardwareError } from '../../../drivers/errors.ts'
import type { Backend, KeptHandle, OwnedHandle } from '../../../drivers/owner/backend.ts'
import { checkedValue, safeValue } from '../../../drivers/owner/values.ts'
import { isDriven, type LastEdge } from '../../../drivers/program/handle.ts'

export interface SavedOwner {
  readonly newest: number
  readonly leases: readonly (readonly [name: string, slot: string])[]
  readonly edges: readonly (readonly [name: string, edge: LastEdge])[]
}

export class HardwareOwner {
  readonly #handles = new Map<string, OwnedHandle>()
  readonly #leases = new Map<string, string>()
  /** The last edge of each input. */
  readonly #edges = new Map<string, LastEdge>()
  readonly #backend: Backend
  readonly #next: () => number
  #newest = 0

  /** `nextFence` gives numbers that rise over the robot's life (HANDLES 3.12). Handles in `kept` are adopted (HANDLES 3.9). */
  constructor(
    backend: Backend,
    board: Board,
    nextFence: () => number,
    kept: ReadonlyMap<string, KeptHandle> = new Map(),
  ) {
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

  /** Leases, last edges and fencing number, for the runtime that goes on with them. */
  save(): SavedOwner {
    return { newest: this.#newest, leases: [...this.#leases], edges: [...this.#edges] }
  }

  restore({ newest, leases, edges }: SavedOwner): void {
    this.#newest = newest
    this.#backend.advance(newest, [])
    for (const [name, slot] of leases) this.#leases.set(name, slot)
    for (const [name, edge] of edges) this.#edges.set(name, edge)
  }

  get all(): IterableIterator<OwnedHandle> {
    return this.#handles.values()
  }

  /** The kind of each handle, for policy.ts. */
  kinds(): Record<string, string> {
    return Object.fromEntries([...this.#handles].map(([name, { kind }]) => [name, kind]))
  }

  /** Handles that the slot cannot lease, because another slot holds them, or another input of the same converter. */
  leasedByOthers(slot: string): RobotFacts['leased'] {
    const leased: RobotFacts['leased'] = {}
    for (const [holds, holder] of this.#leases) {
      if (holder === slot) continue
      for (const name of this.#together(holds)) leased[name] ??= { slot: holder, holds }
      leased[holds] = { slot: holder, holds }
    }
    return leased
  }

  /** All inputs of the converter to which an analog handle belongs: they are leased together (HANDLES 16.3). */
  #together(name: string): string[] {
    const entry = this.#handles.get(name)?.entry
    if (entry?.kind !== 'analog') return []
    const all = [...this.#handles.values()]
    return all
      .filter((other) => other.entry.kind === 'analog' && chipOf(other.entry) === chipOf(entry))
      .map((other) => other.name)
  }

  /** Leases handles to the slot. Checks again what policy.ts has checked: the handles may have been leased since (HANDLES 3.11). */
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

  /** The present values of the slot's driven handles; a handle that cannot be read is left out. */
  values(slot: string): Record<string, number> {
    const values: Record<string, number> = {}
    for (const handle of this.held(slot)) {
      if (!isDriven(handle.kind)) continue
      try {
        values[handle.name] = handle.value() ?? 0
      } catch {
        // The next write to this handle reports the error.
      }
    }
    return values
  }

  /** The last edges of the slot's inputs (HANDLES 3.13). */
  edges(slot: string): Record<string, LastEdge> {
    const edges = [...this.#edges].filter(([name]) => this.#leases.get(name) === slot)
    return Object.fromEntries(edges)
  }

  /** Changes of the slot's outputs between two times of CLOCK_MONOTONIC (ns); null where they cannot be counted. */
  countEdges(slot: string, fromNs: number, toNs: number): number | null {
    const names = this.#backend.changesBetween?.(fromNs, toNs) ?? null
    return names === null ? null : names.filter((name) => this.holder(name) === slot).length
  }

  /** A slot's handles, for `status`. */
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

  /** A new fencing number. The backend allows it from now on. */
  nextFence(): number {
    this.#newest = this.#next()
    this.#backend.advance(this.#newest, [])
    return this.#newest
  }

  /** From now on only this fencing number or a later one may write the slot's handles. */
  raise(slot: string, fence: number): void {
    const names = this.held(slot).map((handle) => handle.name)
    this.#backend.advance(fence, names)
  }

  /** Drives the declared safe levels of a slot's handles, under a fencing number of the body's own (HANDLES 6.2). */
  safe(slot: string): void {
    this.#drive(this.held(slot))
  }

  /** Drives the safe levels of every handle of the board. */
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

  /** An operator's own write to a handle that no slot holds (HANDLES 6.10). Returns the handle. */
  set(name: string, value: number): OwnedHandle {
    const handle = this.find(name)
    const holder = this.holder(name)
    if (holder !== null) {
      const hint = `medulla stop --slot ${holder}`
      throw new Refusal('handle-leased', `${name} is leased to slot ${holder}, whose program writes it`, hint)
    }
    const allowed = settable(handle, value)
    const fence = this.nextFence()
    this.#backend.advance(fence, [name])
    handle.drive(allowed, fence)
    return handle
  }

  /** A new fencing number; the newest one when the disk gives none: its holder was stopped before safe levels are driven. */
  #ownFence(): number {
    try {
      return this.nextFence()
    } catch {
      return this.#newest
    }
  }

  /** Drives every handle, even when one fails; then throws the failures. */
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

/** The value to write. One beyond the handle's limit is refused, because an operator would not notice that it was changed. */
function settable({ name, entry }: OwnedHandle, value: number): number {
  let allowed: number
  try {
    allowed = checkedValue(name, entry, value)
  } catch (error) {
    if (!(error instanceof HardwareError)) throw error
    throw new Refusal(error.kind === 'unsupported' ? 'wrong-kind' : 'usage', error.message, 'medulla get')
  }
  if (allowed === value) return allowed
  throw new Refusal('usage', `${name}: ${value} is beyond its limit, which is ${allowed}`)
}
