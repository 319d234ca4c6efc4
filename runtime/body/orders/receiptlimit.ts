/**
 * Invariant: a flood of refusals, stops or starts adds a bounded number of receipts, and the rest is counted in the log; the
 * flood of one party does not hide the first refusal of another one (HANDOVER 8.18, 8.19;
 * test/runtime/body/orders/receiptlimit.test.ts, test/e2e/flood.test.ts).
 */
import type { Outcome, Receipt } from '../../../deploy/shared/api.ts'
import type { RefusalCode } from '../../../deploy/shared/errors.ts'
import { plainEntry, type ReceiptEntry } from '../slot/entries.ts'

/** Receipts of one party (an operator, or a slot): in a burst, and per minute after it. */
const OWN = { burst: 64, perMinute: 1 }
/** Receipts of all parties together. */
const ALL = { burst: 192, perMinute: 2 }
/** The last receipts of a party's burst are kept for kinds that it has not caused yet. */
const KEPT_FOR_NEW = 16
/** Parties with limits of their own; all others share those of {@link OTHERS}. */
const MAX_PARTIES = 64
const OTHERS = ''
/** ms from the first receipt that is only counted to the receipt with their number; doubled while the flood goes on. */
const WINDOW = { firstMs: 60_000, mostMs: 3_600_000 }
/** Outcomes that a peer can cause quickly. A completed upgrade takes time, and always has its receipt. */
const LIMITED: readonly Outcome[] = ['refused', 'called-off', 'stopped', 'started', 'estopped', 'released']

interface Counted {
  count: number
  /** `now()` at the first of them. */
  since: number
  /** Null: several slots. */
  slot: string | null
  readonly codes: Map<RefusalCode | undefined, number>
}

interface Party {
  readonly own: Bucket
  readonly kinds: Set<string>
  readonly counted: Map<Outcome, Counted>
  windowMs: number
  timer: NodeJS.Timeout | null
}

export interface ReceiptLimitParts {
  /** Null when the receipt could not be written. */
  write(entry: ReceiptEntry): Promise<Receipt | null>
  /** Whether the robot knows this operator: unknown ones share one account. */
  known(fingerprint: string): boolean
  /** Factor for the windows. */
  scale?: number
  /** A clock in ms. */
  now?: () => number
}

export class ReceiptLimit {
  readonly #parts: ReceiptLimitParts
  readonly #now: () => number
  readonly #firstMs: number
  readonly #mostMs: number
  readonly #all: Bucket
  readonly #parties = new Map<string, Party>()

  constructor(parts: ReceiptLimitParts) {
    this.#parts = parts
    this.#now = parts.now ?? (() => performance.now())
    const { scale = 1 } = parts
    this.#firstMs = WINDOW.firstMs * scale
    this.#mostMs = WINDOW.mostMs * scale
    this.#all = new Bucket(ALL, this.#now)
  }

  /** `counted`: there is no receipt of this entry, but one with the number of such entries at the end of the window. */
  async record(entry: ReceiptEntry): Promise<Receipt | 'counted' | null> {
    if (!LIMITED.includes(entry.outcome)) return this.#parts.write(entry)
    const name = this.#nameOf(entry)
    const party = this.#party(name)
    if (this.#admits(party, kindOf(entry))) return this.#parts.write(entry)
    this.#count(name, party, entry)
    return 'counted'
  }

  /** Writes the counts so far. */
  async close(): Promise<void> {
    for (const [name, party] of this.#parties) await this.#summarise(name, party)
  }

  #nameOf({ pusher, slot }: ReceiptEntry): string {
    if (pusher === undefined) return `slot ${slot}`
    return this.#parts.known(pusher) ? pusher : OTHERS
  }

  #party(name: string): Party {
    const known = this.#parties.get(name)
    if (known !== undefined) return known
    for (const [each, party] of this.#parties)
      if (this.#parties.size >= MAX_PARTIES && party.own.isFull && party.timer === null) this.#parties.delete(each)
    if (this.#parties.size >= MAX_PARTIES && name !== OTHERS) return this.#party(OTHERS)
    const party = {
      own: new Bucket(OWN, this.#now),
      kinds: new Set<string>(),
      counted: new Map(),
      windowMs: this.#firstMs,
      timer: null,
    }
    this.#parties.set(name, party)
    return party
  }

  #admits(party: Party, kind: string): boolean {
    const { own, kinds } = party
    // A party that caused nothing for an hour has a receipt, even when the limit of all parties is used up.
    const isFresh = own.isFull
    if (isFresh) {
      kinds.clear()
      party.windowMs = this.#firstMs
    }
    if (own.tokens < (kinds.has(kind) ? KEPT_FOR_NEW + 1 : 1)) return false
    own.take()
    if (this.#all.tokens < 1 && !isFresh) return false
    this.#all.take()
    kinds.add(kind)
    return true
  }

  #count(name: string, party: Party, { outcome, slot, code }: ReceiptEntry): void {
    const counted = party.counted.get(outcome) ?? { count: 0, since: this.#now(), slot, codes: new Map() }
    party.counted.set(outcome, counted)
    counted.count++
    counted.codes.set(code, (counted.codes.get(code) ?? 0) + 1)
    if (counted.slot !== slot) counted.slot = null
    if (party.timer !== null) return
    party.timer = setTimeout(() => void this.#summarise(name, party), party.windowMs)
    party.timer.unref()
  }

  async #summarise(name: string, party: Party): Promise<void> {
    if (party.timer === null) return
    clearTimeout(party.timer)
    party.timer = null
    party.kinds.clear()
    party.windowMs = Math.min(party.windowMs * 2, this.#mostMs)
    const all = [...party.counted]
    party.counted.clear()
    for (const [outcome, { count, since, slot, codes }] of all) {
      const [code, ...more] = codes.keys()
      const often = [...codes].map(([each, times]) => `${times} ${each ?? outcome}`)
      await this.#parts.write(
        plainEntry(slot ?? 'all', outcome, 0, {
          reason: `${count} more: ${often.join(', ')}`.slice(0, 500),
          count,
          periodMs: Math.round(this.#now() - since),
          ...(code === undefined || more.length > 0 ? {} : { code }),
          ...(this.#parts.known(name) ? { pusher: name } : {}),
        }),
      )
    }
  }
}

/** A token bucket. */
export class Bucket {
  readonly #burst: number
  readonly #perMs: number
  readonly #now: () => number
  #tokens: number
  #at: number

  constructor({ burst, perMinute }: typeof OWN, now: () => number) {
    this.#burst = burst
    this.#perMs = perMinute / 60_000
    this.#now = now
    this.#tokens = burst
    this.#at = now()
  }

  get tokens(): number {
    const now = this.#now()
    this.#tokens = Math.min(this.#burst, this.#tokens + (now - this.#at) * this.#perMs)
    this.#at = now
    return this.#tokens
  }

  get isFull(): boolean {
    return this.tokens >= this.#burst
  }

  take(): void {
    this.#tokens = Math.max(0, this.#tokens - 1)
  }
}

const kindOf = ({ outcome, slot, code }: ReceiptEntry): string => `${outcome} ${slot} ${code}`
