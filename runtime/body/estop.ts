/**
 * Invariant: an emergency stop is on disk before it is answered, and only an operator's release ends it; the reset starts
 * nothing (HANDLES 6.7; ISO 13850: resetting permits a restart and does not cause one).
 */
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { writeAtomic } from '../store/atomic.ts'

export interface Latch {
  readonly since: string
  readonly reason: string
}

const MAX_REASON = 200

export class Estop {
  readonly #file: string
  #latch: Latch | null

  /** A file that cannot be read is a stop. */
  constructor(home: string) {
    this.#file = join(home, 'estop.json')
    this.#latch = read(this.#file)
  }

  get latch(): Latch | null {
    return this.#latch
  }

  /** In memory at once; resolves when it is on disk. The first reason stays. */
  async set(reason: string): Promise<void> {
    this.#latch ??= { since: new Date().toISOString(), reason: reason.slice(0, MAX_REASON) }
    await writeAtomic(this.#file, `${JSON.stringify(this.#latch)}\n`)
  }

  clear(): void {
    rmSync(this.#file, { force: true })
    this.#latch = null
  }
}

function read(file: string): Latch | null {
  try {
    const { since, reason } = JSON.parse(readFileSync(file, 'utf8')) as Latch
    return { since: String(since), reason: String(reason) }
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return null
    return { since: new Date().toISOString(), reason: 'estop.json cannot be read' }
  }
}
