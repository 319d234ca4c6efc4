/**
 * Invariant: what was stopped stays stopped over any end of the runtime, and recording a stop needs no free space
 * (HANDLES 6.7, 6.11; test/store/latch.test.ts).
 *
 * `stops.latch` is a file of a fixed size. Body and guard have a region of it each, and a region has two records that are
 * written in turn, in place: a power cut in the middle of one leaves the other. A record is a line of JSON, padded with
 * spaces, so that people can read the file.
 */
import { createHash } from 'node:crypto'
import { closeSync, fsyncSync, openSync, readSync, renameSync, rmSync, write, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'

export const LATCH_FILE = 'stops.latch'
/** Bytes of a record: an emergency stop's reason and the names of 16 slots fit in. */
export const LATCH_RECORD = 4096
const RECORDS_IN_REGION = 2
const REGIONS = { body: 0, guard: 1 } as const
export type Region = keyof typeof REGIONS
const FILE_BYTES = LATCH_RECORD * RECORDS_IN_REGION * Object.keys(REGIONS).length

export interface Latch {
  /** ISO 8601 */
  readonly since: string
  readonly reason: string
}

/** What must not be started. */
export interface Stops {
  readonly estop: Latch | null
  /** Slots that an operator stopped. */
  readonly slots: readonly string[]
}

export const NO_STOPS: Stops = { estop: null, slots: [] }
const MAX_REASON = 200

export function latchOf(reason: string): Latch {
  return { since: new Date().toISOString(), reason: reason.slice(0, MAX_REASON) }
}

/** One record as its bytes. Throws when it does not fit. */
export function encodeStops(sequence: number, stops: Stops): Buffer {
  const record = { sequence, ...stops }
  const text = JSON.stringify({ ...record, sum: sumOf(record) })
  const bytes = Buffer.alloc(LATCH_RECORD, ' ')
  if (Buffer.byteLength(text) >= LATCH_RECORD) throw new Error(`a record of ${Buffer.byteLength(text)} bytes`)
  bytes.write(text)
  bytes[LATCH_RECORD - 1] = 0x0a
  return bytes
}

/** Null: damaged, or half written. */
export function decodeStops(bytes: Uint8Array): { sequence: number; stops: Stops } | null {
  try {
    const { sum, ...record } = JSON.parse(Buffer.from(bytes).toString('utf8')) as { sum: string } & Stops & {
        sequence: number
      }
    const { sequence, estop, slots } = record
    return sum === sumOf(record) && Number.isSafeInteger(sequence) ? { sequence, stops: { estop, slots } } : null
  } catch {
    return null
  }
}

const sumOf = (record: object): string => createHash('sha256').update(JSON.stringify(record)).digest('hex')

/** One region of an open latch file. Body and guard share the file, and each writes its own region. */
export class LatchRegion {
  readonly #fd: number
  readonly #region: Region

  /** `fd` is open for reading and writing, with O_DSYNC: a write that has ended is on disk. It stays the caller's. */
  constructor(fd: number, region: Region) {
    this.#fd = fd
    this.#region = region
  }

  /** A region of which no record can be read is a stop. */
  read(): Stops {
    return this.#newest()?.stops ?? { estop: latchOf(`${LATCH_FILE} cannot be read`), slots: [] }
  }

  /**
   * In another thread, so that a disk that hangs holds nobody up; it is begun when this returns. `done` gets null, or why
   * the record may not be on disk.
   */
  write(stops: Stops, done: (error: Error | null) => void): void {
    const next = this.#next(stops)
    write(this.#fd, next.bytes, 0, LATCH_RECORD, next.at, (error) => done(error))
  }

  #next(stops: Stops): { bytes: Buffer; at: number } {
    const sequence = (this.#newest()?.sequence ?? 0) + 1
    const index = REGIONS[this.#region] * RECORDS_IN_REGION + (sequence % RECORDS_IN_REGION)
    return { bytes: encodeStops(sequence, stops), at: index * LATCH_RECORD }
  }

  #newest(): ReturnType<typeof decodeStops> {
    const bytes = Buffer.alloc(LATCH_RECORD)
    let newest: ReturnType<typeof decodeStops> = null
    for (let index = 0; index < RECORDS_IN_REGION; index++) {
      const at = (REGIONS[this.#region] * RECORDS_IN_REGION + index) * LATCH_RECORD
      bytes.fill(0)
      try {
        readSync(this.#fd, bytes, 0, LATCH_RECORD, at)
      } catch {
        continue
      }
      const record = decodeStops(bytes)
      if (record !== null && record.sequence > (newest?.sequence ?? -1)) newest = record
    }
    return newest
  }
}

/**
 * Opens `<home>/stops.latch`. One that is not there is made with `initial`, all of it, and is on disk when this returns:
 * from then on a stop needs no free space, where the file system writes in place (ext4, xfs, f2fs' in-place mode; one
 * that copies on write may still be full).
 */
export function openLatch(home: string, initial: () => Stops): number {
  const path = join(home, LATCH_FILE)
  try {
    return openSync(path, 'rs+')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const temporary = join(home, `.tmp-${LATCH_FILE}-${process.pid}`)
  const first = encodeStops(1, initial())
  const empty = encodeStops(1, NO_STOPS)
  const fd = openSync(temporary, 'w', 0o600)
  try {
    const bytes = Buffer.concat([first, first, empty, empty])
    if (bytes.length !== FILE_BYTES) throw new Error('a latch file of another size')
    writeSync(fd, bytes)
    fsyncSync(fd)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  } finally {
    closeSync(fd)
  }
  renameSync(temporary, path)
  const folder = openSync(dirname(path), 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
  return openSync(path, 'rs+')
}
