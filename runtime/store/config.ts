/**
 * The file of config values. Invariant: values are in this file only, and only its owner can read it (HANDOVER 15.1;
 * test/e2e/config.test.ts).
 */
import { chmod, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Refusal } from '../../deploy/shared/errors.ts'
import { writeAtomic } from './atomic.ts'
import { readOrNote } from './memory.ts'
import { encodeRecord, isMissing } from './record.ts'

export interface ConfigEntry {
  value: string
  /** When the value was set, as ISO 8601. */
  time: string
  /** Fingerprint of the operator who set it. */
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
  /** For the log: the file was damaged and all values are lost, or other users could read it. */
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

  /** The values, as they are on disk. */
  get values(): ReadonlyMap<string, ConfigEntry> {
    return this.#values
  }

  /** Calls `change` on a copy of the values, and writes the copy. Changes run one after the other. On disk when it resolves. */
  change(change: (values: Map<string, ConfigEntry>) => void): Promise<void> {
    const done = this.#last.then(async () => {
      const values = new Map(this.#values)
      change(values)
      const record: ConfigRecord = { format: 'medulla-config/1', values: Object.fromEntries(values) }
      await writeAtomic(this.#path, encodeRecord(record), 0o600).catch((cause: NodeJS.ErrnoException) => {
        const message = `the config values could not be written (${cause.code}); none was changed`
        throw new Refusal('internal', message, 'medulla doctor', { cause })
      })
      this.#values = values
    })
    this.#last = done.catch(() => {})
    return done
  }
}

/** Closes the file to other users, who could read it after a restore from a backup. Returns the mode it had, or null if it was closed. */
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
