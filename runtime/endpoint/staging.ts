/**
 * The folder through which opened bundles reach the body. Invariant: it holds at most {@link MAX_FILES} files and
 * {@link MAX_TOTAL} bytes, each named by us, and each only while its push lasts.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Refusal } from '../../deploy/errors.ts'

export const MAX_FILES = 4
export const MAX_TOTAL = 64 * 1024 * 1024
const NAME = /^[a-f0-9]{32}\.tar$/

export interface Staged {
  name: string
  length: number
}

export class Staging {
  readonly #folder: string
  readonly #lengths = new Map<string, number>()

  constructor(folder: string) {
    this.#folder = folder
  }

  /** At start: whatever an earlier endpoint left is removed. */
  async empty(): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 })
    for (const name of await readdir(this.#folder)) if (NAME.test(name)) await rm(join(this.#folder, name))
  }

  /** Throws Refusal `in-progress` when the folder is full. The caller removes what it put. */
  async put(bytes: Uint8Array): Promise<Staged> {
    let total = bytes.length
    for (const length of this.#lengths.values()) total += length
    if (this.#lengths.size >= MAX_FILES || total > MAX_TOTAL) {
      throw new Refusal('in-progress', 'the staging folder is full of other pushes', 'try again when they have ended')
    }
    const name = `${randomBytes(16).toString('hex')}.tar`
    this.#lengths.set(name, bytes.length)
    try {
      const file = await open(join(this.#folder, name), 'wx', 0o600)
      try {
        await file.writeFile(bytes)
      } finally {
        await file.close()
      }
    } catch (error) {
      await this.remove(name)
      throw error
    }
    return { name, length: bytes.length }
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.#folder, name), { force: true })
    this.#lengths.delete(name)
  }
}
