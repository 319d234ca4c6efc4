/**
 * Invariant: every write of every slot is accounted for, in constant memory: a count that does not go on from the one before
 * it is kept as a break, with the fencing numbers on both sides, until a receipt explains it.
 */
import type { Receipt } from '../../deploy/shared/api.ts'
import { countOf, type Entry } from '../e2e/trace.ts'

export interface Break {
  slot: number
  /** fencing numbers, and what was counted, before and after */
  fences: [number, number]
  counts: [number, number]
}

interface Seen {
  fence: number
  ns: bigint
}

export class Account {
  steps = 0
  stale = 0
  readonly breaks: Break[] = []
  /** A fencing number went back, in the order of arrival or by the times that the writers stamped. */
  readonly twoWriters: string[] = []
  /** Changes of the held line of each slot; one is its first. */
  readonly heldEdges = new Map<string, number>()
  /** Fencing numbers under which a dial was written. */
  readonly #last = new Map<string, Seen>()
  readonly #counts = new Map<number, { count: number; fence: number }>()

  take(entries: readonly Entry[]): void {
    for (const entry of entries) {
      if (entry.kind === 'input') continue
      if (!entry.accepted) this.stale++
      else this.#accepted(entry)
    }
  }

  #accepted(entry: Entry): void {
    const { name, fence, ns } = entry
    const last = this.#last.get(name)
    if (last !== undefined && (fence < last.fence || (fence > last.fence && ns < last.ns))) {
      this.twoWriters.push(`${name}: ${last.fence} at ${last.ns}, then ${fence} at ${ns}`)
    }
    this.#last.set(name, { fence, ns })
    const [, kind, slot] = /^([a-z]+)(\d+)$/.exec(name) ?? []
    if (kind === 'enable' && entry.changed) this.heldEdges.set(name, (this.heldEdges.get(name) ?? 0) + 1)
    if (kind === 'dial' && fence > 0) this.#counted(Number(slot), entry)
  }

  #counted(slot: number, entry: Entry): void {
    const { fence } = entry
    const count = countOf(entry)
    const before = this.#counts.get(slot) ?? { count: 0, fence: 0 }
    this.steps++
    if (count !== before.count + 1) {
      this.breaks.push({ slot, fences: [before.fence, fence], counts: [before.count, count] })
    }
    this.#counts.set(slot, { count, fence })
  }

  /**
   * The breaks that no receipt explains. A program that was killed is started from its checkpoint; one that comes back from
   * its parked state counts on from there. A swap that was committed explains none.
   */
  unexplained(receipts: readonly Receipt[]): Break[] {
    const explained = new Set(
      receipts
        .filter((receipt) => startedAnew(receipt) || receipt.stateAgeMs !== undefined)
        .map(({ slot, fence }) => `${slot} ${fence}`),
    )
    return this.breaks.filter(({ slot, fences: [, after] }) => !explained.has(`s${slot} ${after}`))
  }
}

/** Without a predecessor that could hand over. */
const startedAnew = ({ outcome, gapMs }: Receipt): boolean =>
  outcome === 'restarted' || outcome === 'started' || (outcome === 'committed' && gapMs === null)
