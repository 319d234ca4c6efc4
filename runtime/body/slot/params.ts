/**
 * Invariant: nothing is kept of a single change: however many come, there is one record of values, at most one message to
 * the program in LIVE_MS and one write to disk in SAVE_MS (HANDOVER 11.6). What was answered is on disk.
 */
import type { ParamChange, ParamInfo } from '../../../deploy/shared/api.ts'
import type { ManifestParam } from '../../../deploy/shared/bundle/params.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { allowed, misfit, type ParamValue, valuesOf } from '../../sdk/params.ts'
import type { SlotEnv } from './env.ts'
import type { Programs } from './programs.ts'
import type { Runnable, Running } from './running.ts'
import type { Owner } from './stateowner.ts'

const LIVE_MS = 20
const SAVE_MS = 100
/** Whose values are kept: as many as a slot has releases to go back to, and some. */
const MAX_PROGRAMS = 16

type Declarations = Readonly<Record<string, ManifestParam>>
type Values = Record<string, ParamValue>

/** What one operator did since the last line of the log. */
interface UnreportedChanges {
  count: number
  changed: Map<string, { from: ParamValue; to: ParamValue }>
}

export class SlotParams {
  readonly #slot: string
  readonly #env: Pick<SlotEnv, 'params' | 'saveParams' | 'committed'>
  readonly #programs: Pick<Programs, 'current' | 'next'>
  readonly #note: (level: string, text: string) => void
  /** What was set and not reset, by program; names and values may be of an earlier version of it (HANDOVER 11.8). */
  readonly #sets: Map<string, Values>
  /** What would be started, as it was found on disk; until the next commit. */
  #waits: Promise<Runnable | null> | null = null
  #sentAt = 0
  #sending: NodeJS.Timeout | null = null
  readonly #told = new Map<string, UnreportedChanges>()
  #savedAt = 0
  #saved: Promise<void> = Promise.resolve()
  /** A write that has not begun yet: it takes with it whatever is changed until then. */
  #save: Promise<void> | null = null

  constructor(
    slot: string,
    env: Pick<SlotEnv, 'params' | 'saveParams' | 'committed'>,
    programs: Pick<Programs, 'current' | 'next'>,
    note: (level: string, text: string) => void,
  ) {
    this.#slot = slot
    this.#env = env
    this.#programs = programs
    this.#note = note
    this.#sets = new Map(Object.entries(env.params(slot) ?? {}))
  }

  /** What runs, or would be started. Throws `not-running` when there is neither. */
  async program(): Promise<Runnable> {
    const runs = this.#programs.current?.runnable
    if (runs !== undefined) return runs
    this.#waits ??= this.#env.committed(this.#slot)
    const waits = await this.#waits
    if (waits !== null) return waits
    throw new Refusal('not-running', `slot ${this.#slot} has no program`, `medulla push --slot ${this.#slot}`)
  }

  /** Every parameter of a program with the value that it has in this slot. */
  values(of: Owner): Values {
    return valuesOf(of.manifest.params, this.#setOf(of))
  }

  report(of: Owner): ParamInfo[] {
    const values = this.values(of)
    const set = this.#setOf(of)
    return Object.entries(of.manifest.params).map(([name, { value: byDefault, ...rest }]) => {
      const type = typeof byDefault === 'string' ? 'choice' : typeof byDefault === 'number' ? 'number' : 'boolean'
      const value = values[name] as ParamValue
      return { name, type, value, default: byDefault, set: Object.hasOwn(set, name), ...rest }
    })
  }

  /** Resolves when it is on disk. Throws Refusal `bad-param`, with nothing changed, when any part of it does not fit. */
  change(change: ParamChange, of: Owner, who: string): Promise<void> {
    if (this.#env.params(this.#slot) === null) {
      const message = `the first program of slot ${this.#slot} is in its trial: nothing is kept of it yet`
      throw new Refusal('not-running', message, 'set it again when the push has ended')
    }
    const before = this.values(of)
    const next = 'set' in change ? this.#setting(change.set, of) : this.#resetting(change.reset, of)
    this.#put(of, next)
    this.#remember(before, this.values(of), who)
    this.#send()
    return this.#persist()
  }

  /** HANDOVER 11.4: forgets what the program that runs from now on has no use for; says what, for whoever pushed it. */
  settle(of: Owner): string[] {
    this.#waits = null
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
    // includes parameters taken over from a program of another name (takesStateOf)
    const isNew = !this.#sets.has(of.program) && Object.keys(kept).length > 0
    this.#put(of, kept)
    for (const note of notes) this.#note('warn', note)
    if (isNew || notes.length > 0)
      this.#persist().catch((error) => this.#note('error', `params not saved: ${String(error)}`))
    return notes
  }

  /** The present values; to a program that was parked, before it goes on (HANDOVER 11.5). */
  tell(running: Running | null): void {
    if (running === null) return
    const values = this.values(running.runnable)
    if (Object.keys(values).length > 0) running.child.send({ t: 'params', values })
  }

  async close(): Promise<void> {
    if (this.#sending !== null) clearTimeout(this.#sending)
    await (this.#save ?? this.#saved).catch(() => {})
  }

  #setOf({ program, manifest: { takesStateOf } }: Owner): Readonly<Values> {
    return this.#sets.get(program) ?? (takesStateOf === undefined ? undefined : this.#sets.get(takesStateOf)) ?? {}
  }

  /** The program whose parameters were changed longest ago is forgotten first. */
  #put({ program }: Owner, set: Values): void {
    this.#sets.delete(program)
    this.#sets.set(program, set)
    for (const oldest of [...this.#sets.keys()].slice(0, -MAX_PROGRAMS)) this.#sets.delete(oldest)
  }

  #setting(set: Readonly<Values>, of: Owner): Values {
    for (const [name, value] of Object.entries(set)) {
      const wrong = misfit(this.#known(name, of.manifest.params), value)
      if (wrong !== null) throw new Refusal('bad-param', `${name}: ${wrong}`, 'medulla param lists what is allowed')
    }
    return { ...this.#setOf(of), ...set }
  }

  #resetting(reset: readonly string[] | 'all', of: Owner): Values {
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
    const told = this.#told.get(who) ?? { count: 0, changed: new Map() }
    this.#told.set(who, told)
    told.count++
    for (const [name, to] of Object.entries(after)) {
      const from = told.changed.get(name)?.from ?? before[name]
      if (from !== undefined && (before[name] !== to || told.changed.has(name))) told.changed.set(name, { from, to })
    }
  }

  /** The first change at once; what comes right after it, together. */
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
    this.#tellLog()
    await this.#env.saveParams(this.#slot, Object.fromEntries(this.#sets))
  }

  #tellLog(): void {
    for (const [who, { count, changed }] of this.#told) {
      const list = [...changed].map(([name, { from, to }]) => `${name} ${from} -> ${to}`)
      const often = count > 1 ? ` (${count} changes)` : ''
      this.#note('info', `params: ${list.join(', ') || 'as they were'}, by ${who}${often}`)
    }
    this.#told.clear()
  }
}
