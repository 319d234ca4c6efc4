/**
 * Invariant: a stop is in memory at once, and on disk before it is answered; only an operator releases it, and the release
 * starts nothing (HANDLES 6.7, 6.11; ISO 13850: resetting permits a restart and does not cause one;
 * test/runtime/guard/latch.test.ts).
 */
import { closeSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type Latch, LatchRegion, latchOf, NO_STOPS, openLatch, type Stops } from '../../guard/latch.ts'

/** A disk that does not answer within this time counts as one that refused. ms */
const DISK_MS = 2000

export class StopLatch {
  readonly fd: number
  readonly #body: LatchRegion
  readonly #guard: LatchRegion
  #stops: Stops
  /**
   * The last write. It begins when the write before has ended, because two at once would take the same record. It includes
   * every change until it begins.
   */
  #last: Promise<Error | null> = Promise.resolve(null)

  private constructor(fd: number) {
    this.fd = fd
    this.#body = new LatchRegion(fd, 'body')
    this.#guard = new LatchRegion(fd, 'guard')
    const { estop, slots } = this.#body.read()
    this.#stops = { estop: estop ?? this.#guard.read().estop, slots }
  }

  /** Throws the error of the file system: a robot that could not record a stop must not start. */
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

  /** Takes over an emergency stop that the guard of the last body latched. */
  adopt(latch: Latch): void {
    this.#stops = { ...this.#stops, estop: this.#stops.estop ?? latch }
  }

  /** In memory at once. Resolves to null when the stop is on disk, else to the error. The first reason is kept. */
  stopAll(reason: string): Promise<Error | null> {
    return this.#set({ ...this.#stops, estop: this.#stops.estop ?? latchOf(reason) })
  }

  /** Resolves to null when the release is on disk, else to the error: then the robot stays stopped. */
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

/** The result of the write, or an error when there is none within {@link DISK_MS}. */
function inTime(written: Promise<Error | null>): Promise<Error | null> {
  return new Promise((resolve) => {
    const late = setTimeout(() => resolve(new Error(`the disk did not answer within ${DISK_MS} ms`)), DISK_MS)
    void written.then((refused) => {
      clearTimeout(late)
      resolve(refused)
    })
  })
}

/** The file of versions before 0.2. One that cannot be read counts as a stop. */
function readEarlier(file: string): Latch | null {
  try {
    const { since, reason } = JSON.parse(readFileSync(file, 'utf8')) as Latch
    return { since: String(since), reason: String(reason) }
  } catch (error) {
    return (error as { code?: unknown }).code === 'ENOENT' ? null : latchOf('estop.json cannot be read')
  }
}
