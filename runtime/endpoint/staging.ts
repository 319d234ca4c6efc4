/**
 * The files through which opened bundles reach the body, which made and opened them. Invariant: each holds at most one bundle,
 * and only during its push (HANDOVER 8.16; test/runtime/endpoint/app.test.ts).
 */
import { ftruncate, write } from 'node:fs'
import { promisify } from 'node:util'
import { Refusal } from '../../deploy/shared/errors.ts'

const writeTo = promisify(write)
const cut = promisify(ftruncate)

export interface Staged {
  /** The number of the file. */
  index: number
  length: number
}

export class Staging {
  readonly #fds: readonly number[]
  readonly #used = new Set<number>()

  /** `fds` are open for writing. */
  constructor(fds: readonly number[]) {
    this.#fds = fds
  }

  /** Throws Refusal `in-progress` when every file is in use. The caller calls `remove` afterwards. */
  async put(bytes: Uint8Array): Promise<Staged> {
    const index = this.#fds.findIndex((_, index) => !this.#used.has(index))
    const fd = this.#fds[index]
    if (fd === undefined) {
      throw new Refusal('in-progress', 'other pushes are being staged', 'try again when they have ended')
    }
    this.#used.add(index)
    try {
      for (let at = 0; at < bytes.length; ) {
        const { bytesWritten } = await writeTo(fd, bytes, at, bytes.length - at, at)
        at += bytesWritten
      }
    } catch (error) {
      await this.remove(index)
      throw error
    }
    return { index, length: bytes.length }
  }

  async remove(index: number): Promise<void> {
    await cut(this.#fds[index] as number, 0)
    this.#used.delete(index)
  }
}
