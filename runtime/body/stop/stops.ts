/**
 * Invariant: what was stopped is in memory at once and on disk before it is answered, and only an operator ends it: the
 * release starts nothing (HANDLES 6.7, 6.11; ISO 13850: resetting permits a restart and does not cause one).
 */
import { closeSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type Latch, LatchRegion, latchOf, NO_STOPS, openLatch, type Stops } from '../../guard/latch.ts'

/** A disk that does not answer counts as a disk that refused. ms */
const DISK_MS = 2000

export class StopLatch {
  readonly fd: number
  readonly #body: LatchRegion
  readonly #guard: LatchRegion
  #stops: Stops
  /**
   * The last write, which begins when the one before has really ended: two writes at once would take the same record. Each
   * write has everything that was asked for by then.
   */
  #last: Promise<Error | null> = Promise.resolve(null)

  private constructor(fd: number) {
    this.fd = fd
    this.#body = new LatchRegion(fd, 'body')
    this.#guard = new LatchRegion(fd, 'guard')
    const { estop, slots } = this.#body.read()
    this.#stops = { estop: estop ?? this.#guard.read().estop, slots }
  }

  /** Throws what the file system throws: a robot that could not record a stop is not started. */
  static open(home: string): StopLatch {
    const earlier = join(home, 'estop.json')
    const fd = openLatch(home, () => ({ estop: readEarlier(earlier), slots: [] }))
    rmSync(earlier, { force: true })
    return new StopLatch(fd)
  }

  get estop(): Latch | null {
    return this.#stops.estop
  }

  isStopped(slot: string): boolean {
    return this.#stops.slots.includes(slot)
  }

  /** What the guard knew before this body began. */
  adopt(latch: Latch): void {
    this.#stops = { ...this.#stops, estop: this.#stops.estop ?? latch }
  }

  /** In memory at once. Resolves with null when it is on disk, else with what the disk said. The first reason stays. */
  stopAll(reason: string): Promise<Error | null> {
    return this.#set({ ...this.#stops, estop: this.#stops.estop ?? latchOf(reason) })
  }

  /** As the others; when the disk refuses, the stop stays. */
  async release(): Promise<Error | null> {
    const { estop } = this.#stops
    const written = this.#set({ ...this.#stops, estop: null })
    const refused = (await inTime(this.#write(this.#guard, NO_STOPS))) ?? (await written)
    if (refused !== null) this.#stops = { ...this.#stops, estop: this.#stops.estop ?? estop }
    return refused
  }

  stopSlot(slot: string): Promise<Error | null> {
    return this.#set({ ...this.#stops, slots: [...this.#stops.slots.filter((name) => name !== slot), slot] })
  }

  startSlot(slot: string): Promise<Error | null> {
    if (!this.isStopped(slot)) return Promise.resolve(null)
    return this.#set({ ...this.#stops, slots: this.#stops.slots.filter((name) => name !== slot) })
  }

  async close(): Promise<void> {
    await inTime(this.#last)
    closeSync(this.fd)
  }

  #set(stops: Stops): Promise<Error | null> {
    this.#stops = stops
    this.#last = this.#last.then(() => this.#write(this.#body, this.#stops))
    return inTime(this.#last)
  }

  #write(region: LatchRegion, stops: Stops): Promise<Error | null> {
    return new Promise((resolve) => {
      try {
        region.write(stops, resolve)
      } catch (error) {
        resolve(error as Error)
      }
    })
  }
}

/** What the disk said, or that it said nothing within {@link DISK_MS}. */
function inTime(written: Promise<Error | null>): Promise<Error | null> {
  return new Promise((resolve) => {
    const late = setTimeout(() => resolve(new Error(`the disk did not answer within ${DISK_MS} ms`)), DISK_MS)
    void written.then((refused) => {
      clearTimeout(late)
      resolve(refused)
    })
  })
}

/** Of versions before 0.2: one that cannot be read is a stop. */
function readEarlier(file: string): Latch | null {
  try {
    const { since, reason } = JSON.parse(readFileSync(file, 'utf8')) as Latch
    return { since: String(since), reason: String(reason) }
  } catch (error) {
    return (error as { code?: unknown }).code === 'ENOENT' ? null : latchOf('estop.json cannot be read')
  }
}
