/**
 * Invariant: a recorded stop outlives any end of the runtime, and recording it needs no free space (HANDLES 6.7, 6.11;
 * test/runtime/guard/latch.test.ts).
 *
 * `stops.latch` has a fixed size. Body and guard each have a region, and a region has two records that are written in turn, in
 * place: a power cut during a write leaves the other record. A record is a line of JSON, padded with spaces, so that people
 * can read the file.
 */
import { createHash } from 'node:crypto'
import { closeSync, fsyncSync, openSync, readSync, renameSync, rmSync, write, writeSync } from 'node:fs'
import { dirname, join } from 'node:path'

export const LATCH_FILE = 'stops.latch'
/** Bytes of a record: enough for the reason of an emergency stop and the names of 16 slots. */
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

/** The emergency stop and the stopped slots: nothing of them may be started. */
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

/** The bytes of a record. Throws when it does not fit. */
export function encodeStops(sequence: number, stops: Stops): Buffer {
  const record = { sequence, ...stops }
  const text = JSON.stringify({ ...record, sum: sumOf(record) })
  const bytes = Buffer.alloc(LATCH_RECORD, ' ')
  if (Buffer.byteLength(text) >= LATCH_RECORD)
    throw new Error(`a stop record has ${Buffer.byteLength(text)} bytes, at most ${LATCH_RECORD - 1} fit`)
  bytes.write(text)
  bytes[LATCH_RECORD - 1] = 0x0a
  return bytes
}

/** Null: the record is damaged or half written. */
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

  /** `fd` is open for reading and writing with O_DSYNC, so a write that has ended is on disk. The caller closes it. */
  constructor(fd: number, region: Region) {
    this.#fd = fd
    this.#region = region
  }

  /** A region without a readable record counts as an emergency stop. */
  read(): Stops {
    return this.#newest()?.stops ?? { estop: latchOf(`${LATCH_FILE} cannot be read`), slots: [] }
  }

  /**
   * Begins the write in another thread, so that a disk that hangs does not block the caller. `done` gets null, or why the
   * record may not be on disk.
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
 * Opens `<home>/stops.latch`. A missing file is written whole with `initial`, and is on disk when this returns. From then on a
 * stop needs no free space, if the file system writes in place (ext4, xfs, f2fs' in-place mode; not one that copies on
 * write).
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
    if (bytes.length !== FILE_BYTES)
      throw new Error(`the latch file would have ${bytes.length} bytes, expected ${FILE_BYTES}`)
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
