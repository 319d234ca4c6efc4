/**
 * Invariant: each program has one checkpoint in a slot, under its own name, and no other program overwrites it
 * (HANDOVER 5.9; test/runtime/store/slots.test.ts).
 */
import { readdir, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { syncDir } from './atomic.ts'
import { type Checkpoint, readCheckpoint, writeCheckpoint } from './checkpoint.ts'
import { isMissing } from './record.ts'

/** Most programs of a slot whose state is kept; the state that was written longest ago is removed first. */
const MOST = 9
const PREFIX = 'checkpoint-'
/** The file of earlier versions, with the state of the program that ran last. */
const EARLIER = 'checkpoint'

export class ProgramStates {
  readonly #dir: string

  /** `dir` holds a folder for each slot. */
  constructor(dir: string) {
    this.#dir = dir
  }

  /** The slot's folder must exist. */
  async save(slot: string, checkpoint: Checkpoint): Promise<void> {
    await writeCheckpoint(join(this.#dir, slot, PREFIX + checkpoint.program), checkpoint)
    await this.#forgetOldest(slot)
  }

  /** Null when the program has no checkpoint. Throws Refusal `bad-state` when it was changed on disk. */
  async load(slot: string, program: string): Promise<Checkpoint | null> {
    const own = await readCheckpoint(join(this.#dir, slot, PREFIX + program))
    if (own !== null) return own
    const earlier = await readCheckpoint(join(this.#dir, slot, EARLIER))
    return earlier?.program === program ? earlier : null
  }

  async remove(slot: string): Promise<void> {
    const folder = join(this.#dir, slot)
    for (const name of [EARLIER, ...(await this.#names(slot))]) {
      await unlink(join(folder, name)).catch((error) => {
        if (!isMissing(error)) throw error
      })
    }
    await syncDir(folder)
  }

  async #forgetOldest(slot: string): Promise<void> {
    const names = await this.#names(slot)
    if (names.length <= MOST) return
    const files = names.map((name) => join(this.#dir, slot, name))
    const aged = await Promise.all(files.map(async (file) => ({ file, at: (await stat(file)).mtimeMs })))
    aged.sort((a, b) => a.at - b.at)
    for (const { file } of aged.slice(0, names.length - MOST)) await unlink(file)
  }

  async #names(slot: string): Promise<string[]> {
    return (await readdir(join(this.#dir, slot))).filter((name) => name.startsWith(PREFIX))
  }
}
