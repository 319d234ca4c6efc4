/**
 * Invariant: slot.json says what a slot runs, and its replacement on disk is the moment of a commit.
 *
 * The record carries the floor that its program implies, so that a kill between the commit and the writing of floors
 * loses nothing: the next open learns it again.
 */
import { existsSync } from 'node:fs'
import { mkdir, readdir, rm, rmdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ReleaseRun } from '../../deploy/shared/api.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { NAME_PATTERN } from '../../deploy/shared/names.ts'
import { recoverDir, syncDir, writeAtomic } from './atomic.ts'
import type { Checkpoint } from './checkpoint.ts'
import { Fences, type FencesFile } from './fences.ts'
import type { Floor, Tried } from './memory.ts'
import { Memory, readOrNote } from './memory.ts'
import { encodeRecord } from './record.ts'
import { ProgramStates } from './states.ts'

export interface SlotRecord {
  format: 'medulla-slot/1'
  slot: string
  /** release digests */
  current: string | null
  previous: string | null
  /** what it ran before, newest first, {@link MAX_HISTORY} at most; absent in records of earlier versions */
  history: readonly string[]
  /** stopped by an operator: not started at boot */
  stopped: boolean
  /** highest fencing number that may have been used when this was written */
  fence: number
  /** what operators set of the parameters of each program, by its name; absent in records of earlier versions */
  paramSets: ParamSets
  /** how the releases did that it can go back to, by digest; absent in records of earlier versions */
  runs: Readonly<Record<string, ReleaseRun>>
  /** releases that were tried and never committed, newest first, {@link MAX_UNDONE} at most; absent in records of earlier versions */
  undone: readonly UndoneRelease[]
  /** what `current` teaches */
  floor: Floor | null
}
export type ParamSets = Readonly<Record<string, Readonly<Record<string, number | boolean | string>>>>
/** As earlier versions wrote it: of the program that the slot runs. */
interface EarlierRecord {
  params?: ParamSets[string]
}
export interface UndoneRelease {
  digest: string
  program: string
  version: string
  signer: string
  /** fingerprint */
  pusher: string
  time: string
}

/** Releases that are kept to go back to, for each slot (HANDOVER 7.9). */
const MAX_HISTORY = 8
/** Releases that were undone and are only remembered (HANDOVER 7.11). */
const MAX_UNDONE = 4

export class Slots {
  readonly #dir: string
  readonly #records = new Map<string, SlotRecord>()
  readonly #memory: Memory
  readonly #fences: Fences
  readonly #states: ProgramStates
  #last: Promise<unknown> = Promise.resolve()
  /** What was damaged on disk and started anew: for the log. */
  readonly problems: string[]

  private constructor(dir: string, records: SlotRecord[], memory: Memory, fences: Fences, problems: string[]) {
    this.#dir = dir
    for (const record of records) this.#records.set(record.slot, record)
    this.#memory = memory
    this.#fences = fences
    this.#states = new ProgramStates(dir)
    this.problems = problems
  }

  /** Opens `<home>/slots` with what `<home>/store` remembers, and completes what a kill interrupted. */
  static async open(home: { readonly dir: string }): Promise<Slots> {
    const dir = join(home.dir, 'slots')
    const store = join(home.dir, 'store')
    for (const folder of [dir, store]) await mkdir(folder, { recursive: true, mode: 0o700 })
    const memory = await Memory.open(store)
    const problems = [...memory.problems]
    await recoverDir(dir)
    const records: SlotRecord[] = []
    for (const slot of (await readdir(dir)).filter((name) => NAME_PATTERN.test(name))) {
      await recoverDir(join(dir, slot))
      // of a slot that never committed anything
      if (!existsSync(join(dir, slot, 'slot.json'))) {
        await rm(join(dir, slot, 'data'), { recursive: true, force: true })
        await rmdir(join(dir, slot)).catch(() => {})
        continue
      }
      const found = await readOrNote<SlotRecord>(join(dir, slot, 'slot.json'), 'medulla-slot/1', problems)
      if (found?.slot === slot) records.push(found)
    }
    for (const { current, floor } of records) {
      if (current !== null && floor !== null) await memory.learn({ floor, digest: current, outcome: 'committed' })
    }
    const known = await readOrNote<FencesFile>(join(store, 'fences.json'), 'medulla-fences/1', problems)
    const used = Math.max(0, known?.high ?? 0, ...records.map((record) => record.fence))
    return new Slots(dir, records, memory, await Fences.open(join(store, 'fences.json'), used), problems)
  }

  /** Slots that ever had a program. */
  names(): string[] {
    return [...this.#records.keys()].sort()
  }

  /** It has a program: one that was committed. */
  isCommitted(slot: string): boolean {
    return this.#records.get(slot)?.current != null
  }

  /** An empty record for a slot that has none. */
  get(slot: string): SlotRecord {
    const empty = {
      current: null,
      previous: null,
      history: [],
      stopped: false,
      paramSets: {},
      runs: {},
      undone: [],
      floor: null,
    }
    const { params, ...known } = (this.#records.get(slot) ?? {}) as Partial<SlotRecord> & EarlierRecord
    const owner = known.floor?.program
    const earlier = params === undefined || owner === undefined ? {} : { paramSets: { [owner]: params } }
    return { format: 'medulla-slot/1', slot, fence: 0, ...empty, ...earlier, ...known }
  }

  /** Digests that a slot runs or can go back to: not to be pruned. */
  digests(): Set<string> {
    return new Set([...this.#records.keys()].flatMap((slot) => this.releases(slot)))
  }

  /** HANDOVER 7.9: digests of what the slot runs and, the newest first, of what it can go back to. */
  releases(slot: string): string[] {
    const { current, previous, history } = this.get(slot)
    return [...new Set([current, previous, ...history])].filter((digest) => digest !== null)
  }

  floor(kind: string, program: string): number {
    return this.#memory.floor(kind, program)
  }

  tried(digest: string): Tried | null {
    return this.#memory.tried(digest)
  }

  /** A new fencing number, unique on this robot. Synchronous: it is on the path of a swap. */
  nextFence(): number {
    return this.#fences.next()
  }

  /** `digest` is what the slot runs from now on, also after a kill in the next instant. An order to go back is no new floor. */
  commit(slot: string, digest: string, release: Floor): Promise<SlotRecord> {
    return this.#queue(async () => {
      const before = this.get(slot)
      const previous = before.current === digest ? before.previous : before.current
      const all = [before.current, before.previous, ...before.history]
      const history = [...new Set(all)].flatMap((each) => (each === null || each === digest ? [] : [each]))
      const { kind, program, counter } = release
      // never lower than before, so that this copy is as good as floors.json
      const floor = { kind, program, counter: Math.max(counter, this.#memory.floor(kind, program)) }
      const record = await this.#write({
        ...before,
        current: digest,
        previous,
        history: history.slice(0, MAX_HISTORY),
        stopped: false,
        floor,
      })
      await this.#memory.learn({ floor, digest, outcome: 'committed' })
      return record
    })
  }

  /** `digest` was tried and undone. The slot's record stays as it is. */
  rolledBack(digest: string): Promise<void> {
    return this.#queue(async () => {
      // a committed release that fails later was still installed once
      if (this.#memory.tried(digest) !== 'committed') await this.#memory.learn({ digest, outcome: 'rolled-back' })
    })
  }

  /** BUNDLE 10.14: any release of this program is new again. Its copies in the slots first: they would bring it back. */
  resetFloor(kind: string, program: string): Promise<void> {
    return this.#queue(async () => {
      for (const [slot, record] of this.#records) {
        const { floor } = record
        if (floor?.kind === kind && floor.program === program) await this.#write({ ...this.get(slot), floor: null })
      }
      await this.#memory.forgetFloor(kind, program)
    })
  }

  setStopped(slot: string, stopped: boolean): Promise<SlotRecord> {
    return this.#queue(() => this.#write({ ...this.get(slot), stopped }))
  }

  setParams(slot: string, paramSets: ParamSets): Promise<SlotRecord> {
    return this.#queue(() => this.#write({ ...this.get(slot), paramSets }))
  }

  /**
   * How a release did. `written` false: it is on disk with the next record. Of a release that the slot does not keep nothing
   * is remembered.
   */
  setRun(slot: string, digest: string, run: ReleaseRun, written: boolean): Promise<void> {
    return this.#queue(async () => {
      const before = this.get(slot)
      if (!this.releases(slot).includes(digest)) return
      const record = { ...before, runs: { ...before.runs, [digest]: run } }
      if (written) await this.#write(record)
      else this.#records.set(slot, record)
    })
  }

  /** It failed its trial, or before. One that the slot keeps did not run well then. Of a slot without a program nothing is remembered. */
  setUndone(slot: string, release: UndoneRelease): Promise<void> {
    return this.#queue(async () => {
      const before = this.get(slot)
      if (before.current === null) return
      const { digest } = release
      const run = before.runs[digest]
      if (run !== undefined)
        await this.#write({ ...before, runs: { ...before.runs, [digest]: { ...run, well: false } } })
      if (this.releases(slot).includes(digest)) return
      const others = before.undone.filter((each) => each.digest !== digest)
      await this.#write({ ...before, undone: [release, ...others].slice(0, MAX_UNDONE) })
    })
  }

  /** At boot, when `current` is damaged: the slot runs `digest` (the previous one) or nothing. Floors stay. */
  fallBack(slot: string, digest: string | null): Promise<SlotRecord> {
    return this.#queue(() => {
      const before = this.get(slot)
      const history = before.history.filter((each) => each !== digest)
      return this.#write({ ...before, current: digest, previous: history[0] ?? null, history, floor: null })
    })
  }

  /** Forgets the slot's program, checkpoint and data; floors, tried digests and fencing numbers stay. */
  remove(slot: string): Promise<void> {
    return this.#queue(async () => {
      if (!this.#records.has(slot)) throw new Refusal('not-found', `there is no slot '${slot}'`)
      // the folder stays, with a record: its fence is the second copy of the high water mark
      await this.#write({
        ...this.get(slot),
        current: null,
        previous: null,
        history: [],
        stopped: true,
        paramSets: {},
        runs: {},
        undone: [],
        floor: null,
      })
      await this.#states.remove(slot)
      await rm(join(this.#dir, slot, 'data'), { recursive: true, force: true })
      await syncDir(join(this.#dir, slot))
    })
  }

  saveCheckpoint(slot: string, checkpoint: Checkpoint): Promise<void> {
    return this.#queue(async () => {
      await this.#folder(slot)
      await this.#states.save(slot, checkpoint)
    })
  }

  /** Null when there is none of this program. Throws Refusal `bad-state` when it was changed on disk. */
  loadCheckpoint(slot: string, program: string): Promise<Checkpoint | null> {
    return this.#states.load(slot, program)
  }

  /** Resolves when everything asked for is on disk. */
  async close(): Promise<void> {
    await this.#last
    await this.#fences.settled()
  }

  async #write(record: SlotRecord): Promise<SlotRecord> {
    const kept = new Set([record.current, record.previous, ...record.history])
    const runs = Object.fromEntries(Object.entries(record.runs).filter(([digest]) => kept.has(digest)))
    const undone = record.undone.filter(({ digest }) => !kept.has(digest))
    const written = { ...record, runs, undone, fence: this.#fences.high }
    await this.#folder(record.slot)
    await writeAtomic(join(this.#dir, record.slot, 'slot.json'), encodeRecord(written))
    this.#records.set(record.slot, written)
    return written
  }

  async #folder(slot: string): Promise<void> {
    if (!NAME_PATTERN.test(slot))
      throw new Refusal('usage', `slot name '${slot}' does not match ${NAME_PATTERN.source}`)
    const made = await mkdir(join(this.#dir, slot), { recursive: true, mode: 0o700 })
    if (made !== undefined) await syncDir(this.#dir)
  }

  #queue<T>(job: () => Promise<T>): Promise<T> {
    const next = this.#last.then(job, job)
    this.#last = next.catch(() => {})
    return next
  }
}
