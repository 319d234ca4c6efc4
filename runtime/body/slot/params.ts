/**
 * Invariant: the body keeps nothing of a single change: however many come, there is one record of values, at most one
 * message to the program in LIVE_MS and one write to disk in SAVE_MS, and a change is answered once it is on disk
 * (HANDOVER 11.6; test/runtime/body/slot/params.test.ts).
 */
import type { ParamChange, ParamInfo } from '../../../deploy/shared/api.ts'
import type { ManifestParam } from '../../../deploy/shared/bundle/params.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { allowed, misfit, type ParamValue, valuesOf } from '../../sdk/params.ts'
import type { SlotStore } from './context.ts'
import type { Programs } from './programs.ts'
import type { Runnable, Running } from './running.ts'
import type { StateOwner } from './stateowner.ts'

const LIVE_MS = 20
const SAVE_MS = 100
/** Programs whose values a slot keeps: more than it keeps releases for a rollback. */
const MAX_PROGRAMS = 16

type Declarations = Readonly<Record<string, ManifestParam>>
type Values = Record<string, ParamValue>

/** What one operator changed since the last log line. */
interface UnreportedChanges {
  count: number
  changed: Map<string, { from: ParamValue; to: ParamValue }>
}

export class SlotParams {
  readonly #slot: string
  readonly #store: Pick<SlotStore, 'params' | 'saveParams' | 'committed'>
  readonly #programs: Pick<Programs, 'current' | 'next'>
  readonly #note: (level: string, text: string) => void
  /** Values that were set and not reset, by program; some may be of an earlier version of the program (HANDOVER 11.8). */
  readonly #sets: Map<string, Values>
  /** The program that would be started, loaded from disk; valid until the next commit. */
  #committed: Promise<Runnable | null> | null = null
  #sentAt = 0
  #sending: NodeJS.Timeout | null = null
  readonly #unreported = new Map<string, UnreportedChanges>()
  #savedAt = 0
  #saved: Promise<void> = Promise.resolve()
  /** A write that has not begun yet: it includes every change until it begins. */
  #save: Promise<void> | null = null

  constructor(
    slot: string,
    store: Pick<SlotStore, 'params' | 'saveParams' | 'committed'>,
    programs: Pick<Programs, 'current' | 'next'>,
    note: (level: string, text: string) => void,
  ) {
    this.#slot = slot
    this.#store = store
    this.#programs = programs
    this.#note = note
    this.#sets = new Map(Object.entries(store.params() ?? {}))
  }

  /** The program that runs, or would be started. Throws `not-running` when there is neither. */
  async program(): Promise<Runnable> {
    const runs = this.#programs.current?.runnable
    if (runs !== undefined) return runs
    this.#committed ??= this.#store.committed()
    const committed = await this.#committed
    if (committed !== null) return committed
    throw new Refusal('not-running', `slot ${this.#slot} has no program`, `medulla push --slot ${this.#slot}`)
  }

  /** Every parameter of a program with the value that it has in this slot. */
  values(of: StateOwner): Values {
    return valuesOf(of.manifest.params, this.#setOf(of))
  }

  report(of: StateOwner): ParamInfo[] {
    const values = this.values(of)
    const set = this.#setOf(of)
    return Object.entries(of.manifest.params).map(([name, { value: byDefault, ...rest }]) => {
      const type = typeof byDefault === 'string' ? 'choice' : typeof byDefault === 'number' ? 'number' : 'boolean'
      const value = values[name] as ParamValue
      return { name, type, value, default: byDefault, set: Object.hasOwn(set, name), ...rest }
    })
  }

  /** Resolves when the change is on disk. Throws Refusal `bad-param`, with nothing changed, when a part of it is not allowed. */
  change(change: ParamChange, of: StateOwner, who: string): Promise<void> {
    if (this.#store.params() === null) {
      const message = `the first program of slot ${this.#slot} is in its trial: it has no parameters on disk yet`
      throw new Refusal('not-running', message, 'set it again when the push has ended')
    }
    const before = this.values(of)
    const next = 'set' in change ? this.#setting(change.set, of) : this.#resetting(change.reset, of)
    this.#put(of, next)
    this.#remember(before, this.values(of), who)
    this.#send()
    return this.#persist()
  }

  /** Forgets the values that the newly committed program does not allow, and returns a note on each for the pusher (HANDOVER 11.4). */
  settle(of: StateOwner): string[] {
    this.#committed = null
    const declared = of.manifest.params
    const notes: string[] = []
    const kept = { ...this.#setOf(of) }
    for (const [name, value] of Object.entries(kept)) {
      const known = Object.hasOwn(declared, name) ? (declared[name] as ManifestParam) : null
      if (known !== null && misfit(known, value) === null) continue
      delete kept[name]
      const now = known === null ? 'it has no such parameter' : `it is ${known.value}, allowed is ${allowed(known)}`
      notes.push(`${name}=${value} was not kept: ${now}`)
    }
    // The values may come from a program of another name (takesStateOf): then this one has none of its own yet.
    const isNew = !this.#sets.has(of.program) && Object.keys(kept).length > 0
    this.#put(of, kept)
    for (const note of notes) this.#note('warn', note)
    if (isNew || notes.length > 0)
      this.#persist().catch((error) => this.#note('error', `params not saved: ${String(error)}`))
    return notes
  }

  /** Sends the present values; a parked program gets them before it goes on (HANDOVER 11.5). */
  tell(running: Running | null): void {
    if (running === null) return
    const values = this.values(running.runnable)
    if (Object.keys(values).length > 0) running.child.send({ t: 'params', values })
  }

  /** Resolves when what was changed so far is sent and on disk. */
  async flush(): Promise<void> {
    if (this.#sending !== null) {
      clearTimeout(this.#sending)
      this.#sendNow()
    }
    await (this.#save ?? this.#saved)
  }

  async close(): Promise<void> {
    if (this.#sending !== null) clearTimeout(this.#sending)
    await (this.#save ?? this.#saved).catch(() => {})
  }

  #setOf({ program, manifest: { takesStateOf } }: StateOwner): Readonly<Values> {
    return this.#sets.get(program) ?? (takesStateOf === undefined ? undefined : this.#sets.get(takesStateOf)) ?? {}
  }

  /** When there are too many programs, forgets the one whose parameters were changed longest ago. */
  #put({ program }: StateOwner, set: Values): void {
    this.#sets.delete(program)
    this.#sets.set(program, set)
    for (const oldest of [...this.#sets.keys()].slice(0, -MAX_PROGRAMS)) this.#sets.delete(oldest)
  }

  #setting(set: Readonly<Values>, of: StateOwner): Values {
    for (const [name, value] of Object.entries(set)) {
      const wrong = misfit(this.#known(name, of.manifest.params), value)
      if (wrong !== null) throw new Refusal('bad-param', `${name}: ${wrong}`, 'medulla param lists what is allowed')
    }
    return { ...this.#setOf(of), ...set }
  }

  #resetting(reset: readonly string[] | 'all', of: StateOwner): Values {
    if (reset === 'all') return {}
    for (const name of reset) this.#known(name, of.manifest.params)
    return Object.fromEntries(Object.entries(this.#setOf(of)).filter(([name]) => !reset.includes(name)))
  }

  #known(name: string, declared: Declarations): ManifestParam {
    const known = Object.hasOwn(declared, name) ? declared[name] : undefined
    if (known !== undefined) return known
    const names = Object.keys(declared).join(', ') || 'none'
    throw new Refusal('bad-param', `the program has no parameter ${name}; it has: ${names}`, 'medulla param')
  }

  #remember(before: Values, after: Values, who: string): void {
    const unreported = this.#unreported.get(who) ?? { count: 0, changed: new Map() }
    this.#unreported.set(who, unreported)
    unreported.count++
    for (const [name, to] of Object.entries(after)) {
      const from = unreported.changed.get(name)?.from ?? before[name]
      if (from !== undefined && (before[name] !== to || unreported.changed.has(name)))
        unreported.changed.set(name, { from, to })
    }
  }

  /** Sends the first change at once, and those of the next LIVE_MS in one message. */
  #send(): void {
    if (this.#sending !== null) return
    const wait = this.#sentAt + LIVE_MS - performance.now()
    if (wait > 0) {
      this.#sending = setTimeout(() => this.#sendNow(), wait)
      return
    }
    this.#sendNow()
  }

  #sendNow(): void {
    this.#sending = null
    this.#sentAt = performance.now()
    this.tell(this.#programs.current)
    this.tell(this.#programs.next)
  }

  #persist(): Promise<void> {
    if (this.#save !== null) return this.#save
    const save = this.#write(this.#saved)
    this.#save = save
    this.#saved = save.catch(() => {})
    return save
  }

  async #write(before: Promise<void>): Promise<void> {
    await before
    const wait = this.#savedAt + SAVE_MS - performance.now()
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait))
    this.#save = null
    this.#savedAt = performance.now()
    this.#reportChanges()
    await this.#store.saveParams(Object.fromEntries(this.#sets))
  }

  #reportChanges(): void {
    for (const [who, { count, changed }] of this.#unreported) {
      const list = [...changed].map(([name, { from, to }]) => `${name} ${from} -> ${to}`)
      const often = count > 1 ? ` (${count} changes)` : ''
      this.#note('info', `params: ${list.join(', ') || 'as they were'}, by ${who}${often}`)
    }
    this.#unreported.clear()
  }
}
