/**
 * The records of the slots on disk. Invariant: slot.json names the release that a slot runs, and the moment of a commit is its
 * atomic replacement (test/runtime/store/slots.test.ts).
 *
 * The record also holds the floor of its program: after a kill between the commit and the write of floors.json, the next start
 * restores the floor from it.
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
import type { Floor, TrialOutcome } from './memory.ts'
import { ReleaseMemory, readOrNote } from './memory.ts'
import { encodeRecord } from './record.ts'
import { ProgramStates } from './states.ts'

export interface SlotRecord {
  format: 'medulla-slot/1'
  slot: string
  /** Digest of the release that the slot runs; null: it has no program. */
  current: string | null
  /** Digest of the release before it. */
  previous: string | null
  /** Digests of earlier releases, newest first, {@link MAX_HISTORY} at most; absent in records of earlier versions. */
  history: readonly string[]
  /** Stopped by an operator: the program is not started at boot. */
  stopped: boolean
  /** The highest fencing number that may have been used when the record was written. */
  fence: number
  /** Parameters that operators set, by program name; absent in records of earlier versions. */
  paramSets: ParamSets
  /** How well each release ran, by digest; absent in records of earlier versions. */
  runs: Readonly<Record<string, ReleaseRun>>
  /** Releases that failed and were never committed, newest first, {@link MAX_UNDONE} at most; absent in records of earlier versions. */
  undone: readonly UndoneRelease[]
  /** The floor after the commit of `current`. */
  floor: Floor | null
  /** The release that was to be started, and was changed on disk; until the next commit. Absent: none was. */
  alarm?: string
}
export type ParamSets = Readonly<Record<string, Readonly<Record<string, number | boolean | string>>>>
/** Earlier versions kept the parameters of the running program only. */
interface EarlierRecord {
  params?: ParamSets[string]
}
export interface UndoneRelease {
  digest: string
  program: string
  version: string
  signer: string
  /** Fingerprint of the operator who pushed it. */
  pusher: string
  time: string
}

/** Releases that a slot keeps for a rollback (HANDOVER 7.9). */
const MAX_HISTORY = 8
/** Failed releases that a slot's record names (HANDOVER 7.11). */
const MAX_UNDONE = 4

export class Slots {
  readonly #dir: string
  readonly #records = new Map<string, SlotRecord>()
  readonly #memory: ReleaseMemory
  readonly #fences: Fences
  readonly #states: ProgramStates
  #last: Promise<unknown> = Promise.resolve()
  /** For the log: files that were damaged and are empty now. */
  readonly problems: string[]

  private constructor(dir: string, records: SlotRecord[], memory: ReleaseMemory, fences: Fences, problems: string[]) {
    this.#dir = dir
    for (const record of records) this.#records.set(record.slot, record)
    this.#memory = memory
    this.#fences = fences
    this.#states = new ProgramStates(dir)
    this.problems = problems
  }

  /** Opens `<home>/slots`, and the floors, tried digests and fencing numbers in `<home>/store`; repairs what a kill interrupted. */
  static async open(home: { readonly dir: string }): Promise<Slots> {
    const dir = join(home.dir, 'slots')
    const store = join(home.dir, 'store')
    for (const folder of [dir, store]) await mkdir(folder, { recursive: true, mode: 0o700 })
    const memory = await ReleaseMemory.open(store)
    const problems = [...memory.problems]
    await recoverDir(dir)
    const records: SlotRecord[] = []
    for (const slot of (await readdir(dir)).filter((name) => NAME_PATTERN.test(name))) {
      await recoverDir(join(dir, slot))
      // The folder of a slot that never committed a program.
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

  /** Whether the slot has a committed program. */
  isCommitted(slot: string): boolean {
    return this.#records.get(slot)?.current != null
  }

  /** The record of the slot, or an empty one. */
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

  /** The digests that slots run or keep for a rollback: not to be pruned. */
  digests(): Set<string> {
    return new Set([...this.#records.keys()].flatMap((slot) => this.releases(slot)))
  }

  /** The digest that the slot runs, then those kept for a rollback, newest first (HANDOVER 7.9). */
  releases(slot: string): string[] {
    const { current, previous, history } = this.get(slot)
    return [...new Set([current, previous, ...history])].filter((digest) => digest !== null)
  }

  floor(kind: string, program: string): number {
    return this.#memory.floor(kind, program)
  }

  tried(digest: string): TrialOutcome | null {
    return this.#memory.tried(digest)
  }

  /** A new fencing number, unique on this robot. Synchronous, because it is needed during a swap. */
  nextFence(): number {
    return this.#fences.next()
  }

  /** Records that the slot runs `digest` from now on. On disk when it resolves. */
  commit(slot: string, digest: string, release: Floor): Promise<SlotRecord> {
    return this.#queue(async () => {
      // What was committed now was verified: the alarm is over.
      const { alarm: _, ...before } = this.get(slot)
      const previous = before.current === digest ? before.previous : before.current
      const all = [before.current, before.previous, ...before.history]
      const history = [...new Set(all)].flatMap((each) => (each === null || each === digest ? [] : [each]))
      const { kind, program, counter } = release
      // Not below the present floor, so that this copy can replace floors.json.
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

  /** Remembers that `digest` failed. */
  rolledBack(digest: string): Promise<void> {
    return this.#queue(async () => {
      // A release that was committed before stays `committed`.
      if (this.#memory.tried(digest) !== 'committed') await this.#memory.learn({ digest, outcome: 'rolled-back' })
    })
  }

  /** The runtime that runs was healthy: older ones are refused from now on. */
  committedRuntime(digest: string, floor: Floor): Promise<void> {
    return this.#queue(() => this.#memory.learn({ floor, digest, outcome: 'committed' }))
  }

  /** Forgets the floor of a program (BUNDLE 10.14). Its copies in the slots first, because a start would restore it from them. */
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
   * Records how well a release runs, if the slot keeps it. `written` false: it reaches the disk with the next write of the
   * record.
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

  /** Records that a release failed before its commit, if the slot has a program. A release that the slot keeps counts as not well. */
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

  /** These releases are damaged, for the reason `alarm`: the slot runs `digest`, another one that it keeps. Floors stay. */
  fallBack(slot: string, digest: string, damaged: readonly string[], alarm: string): Promise<SlotRecord> {
    return this.#queue(() => {
      const before = this.get(slot)
      const history = this.releases(slot).filter((each) => each !== digest && !damaged.includes(each))
      return this.#write({ ...before, current: digest, previous: history[0] ?? null, history, floor: null, alarm })
    })
  }

  /** Forgets the slot's program, checkpoint and data; floors, tried digests and fencing numbers stay. */
  remove(slot: string): Promise<void> {
    return this.#queue(async () => {
      if (!this.#records.has(slot)) throw new Refusal('not-found', `there is no slot ${slot}`)
      // The record stays: its fence is the second copy of the highest fencing number.
      const { alarm: _, ...before } = this.get(slot)
      await this.#write({
        ...before,
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

  /** Null when the program has no checkpoint. Throws Refusal `bad-state` when it was changed on disk. */
  loadCheckpoint(slot: string, program: string): Promise<Checkpoint | null> {
    return this.#states.load(slot, program)
  }

  /** Resolves when every write has ended. */
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
