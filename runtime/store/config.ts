/**
 * Invariant: config values are in this one file of the home, which nobody but its owner reads, and in no other
 * (HANDOVER 15.1; test/e2e/config.test.ts).
 */
import { chmod, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Refusal } from '../../deploy/shared/errors.ts'
import { writeAtomic } from './atomic.ts'
import { readOrNote } from './memory.ts'
import { encodeRecord, isMissing } from './record.ts'

export interface ConfigEntry {
  value: string
  /** when it was set */
  time: string
  /** fingerprint of who set it */
  by: string
}
interface ConfigRecord {
  format: 'medulla-config/1'
  values: Record<string, ConfigEntry>
}

export class ConfigFile {
  readonly #path: string
  #values: ReadonlyMap<string, ConfigEntry>
  #last: Promise<unknown> = Promise.resolve()
  /** That it was damaged on disk and all values are gone, or that others could read it: for the log. */
  readonly problems: readonly string[]

  private constructor(path: string, values: ReadonlyMap<string, ConfigEntry>, problems: readonly string[]) {
    this.#path = path
    this.#values = values
    this.problems = problems
  }

  static async open(home: string): Promise<ConfigFile> {
    const path = join(home, 'config.json')
    const problems: string[] = []
    const found = await readOrNote<ConfigRecord>(path, 'medulla-config/1', problems)
    const mode = await makePrivate(path)
    if (mode !== null) {
      problems.push(`${path} had mode ${mode} and has 600 now: change the values, others may have read them`)
    }
    return new ConfigFile(path, new Map(Object.entries(found?.values ?? {})), problems)
  }

  /** As they are on disk. */
  get values(): ReadonlyMap<string, ConfigEntry> {
    return this.#values
  }

  /** Replaces all values by what `change` makes of them, one change after the other. On disk when it resolves. */
  change(change: (values: Map<string, ConfigEntry>) => void): Promise<void> {
    const done = this.#last.then(async () => {
      const values = new Map(this.#values)
      change(values)
      const record: ConfigRecord = { format: 'medulla-config/1', values: Object.fromEntries(values) }
      await writeAtomic(this.#path, encodeRecord(record), 0o600).catch((cause: NodeJS.ErrnoException) => {
        const message = `the config values could not be written: ${cause.code}; they are as they were`
        throw new Refusal('internal', message, 'medulla doctor', { cause })
      })
      this.#values = values
    })
    this.#last = done.catch(() => {})
    return done
  }
}

/** The mode that it had, where it was open to others, as after it was put back from a backup; null otherwise. */
async function makePrivate(path: string): Promise<string | null> {
  try {
    const mode = (await stat(path)).mode & 0o777
    if ((mode & 0o077) === 0) return null
    await chmod(path, 0o600)
    return mode.toString(8)
  } catch (error) {
    if (isMissing(error)) return null
    throw error
  }
}
