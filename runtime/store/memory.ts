/**
 * Remembers floors and tried releases, over all slots. Invariant: a floor never falls except by an owner's order, also when its
 * slot is removed (test/runtime/store/slots.test.ts).
 */
import { join } from 'node:path'
import { Refusal } from '../../deploy/shared/errors.ts'
import { writeAtomic } from './atomic.ts'
import { encodeRecord, readRecord } from './record.ts'

export type TrialOutcome = 'committed' | 'rolled-back'
/** The highest committed counter of a program. */
export interface Floor {
  kind: string
  program: string
  counter: number
}

/** Most digests that are remembered, the newest; forgotten releases are still below the floor. */
export const MAX_TRIED = 1000

interface FloorsFile {
  format: 'medulla-floors/1'
  floors: [kind: string, program: string, counter: number][]
}
interface TriedFile {
  format: 'medulla-tried/1'
  tried: [digest: string, outcome: TrialOutcome][]
}

export class ReleaseMemory {
  readonly #dir: string
  readonly #floors = new Map<string, Floor>()
  readonly #tried = new Map<string, TrialOutcome>()
  /** For the log: files that were damaged and are empty now. */
  readonly problems: string[] = []

  private constructor(dir: string) {
    this.#dir = dir
  }

  /** `dir` is `<home>/store`. */
  static async open(dir: string): Promise<ReleaseMemory> {
    const memory = new ReleaseMemory(dir)
    const floors = await readOrNote<FloorsFile>(join(dir, 'floors.json'), 'medulla-floors/1', memory.problems)
    for (const [kind, program, counter] of floors?.floors ?? []) memory.#raise({ kind, program, counter })
    const tried = await readOrNote<TriedFile>(join(dir, 'tried.json'), 'medulla-tried/1', memory.problems)
    for (const [digest, outcome] of tried?.tried ?? []) memory.#tried.set(digest, outcome)
    return memory
  }

  /** The highest committed counter of the program; 0 when none was committed. */
  floor(kind: string, program: string): number {
    return this.#floors.get(`${kind} ${program}`)?.counter ?? 0
  }

  tried(digest: string): TrialOutcome | null {
    return this.#tried.get(digest) ?? null
  }

  async learn(what: { floor?: Floor; digest: string; outcome: TrialOutcome }): Promise<void> {
    if (what.floor !== undefined && this.#raise(what.floor)) await this.#writeFloors()
    if (this.#tried.get(what.digest) === what.outcome) return
    this.#tried.delete(what.digest)
    this.#tried.set(what.digest, what.outcome)
    for (const oldest of this.#tried.keys()) {
      if (this.#tried.size <= MAX_TRIED) break
      this.#tried.delete(oldest)
    }
    const file: TriedFile = { format: 'medulla-tried/1', tried: [...this.#tried] }
    await writeAtomic(join(this.#dir, 'tried.json'), encodeRecord(file))
  }

  /** By an owner's order, any counter of the program is new again (BUNDLE 10.14). */
  async forgetFloor(kind: string, program: string): Promise<void> {
    if (this.#floors.delete(`${kind} ${program}`)) await this.#writeFloors()
  }

  async #writeFloors(): Promise<void> {
    const floors = [...this.#floors.values()].map((one): FloorsFile['floors'][number] => [
      one.kind,
      one.program,
      one.counter,
    ])
    const file: FloorsFile = { format: 'medulla-floors/1', floors }
    await writeAtomic(join(this.#dir, 'floors.json'), encodeRecord(file))
  }

  /** Returns false when the floor is as high already (BUNDLE 10.6). */
  #raise(floor: Floor): boolean {
    if (floor.counter <= this.floor(floor.kind, floor.program)) return false
    this.#floors.set(`${floor.kind} ${floor.program}`, { ...floor })
    return true
  }
}

/** Null, and a note in `problems`, when the file is damaged: a robot with a damaged file still has to start. */
export async function readOrNote<T extends { format: string }>(
  path: string,
  format: T['format'],
  problems: string[],
): Promise<T | null> {
  try {
    return await readRecord<T>(path, format)
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    problems.push(error.message)
    return null
  }
}
