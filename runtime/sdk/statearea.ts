/**
 * Invariant: a snapshot is used only after its reader has hashed every byte and compared with the root in the record
 * (HANDOVER 5.7; test/runtime/sdk/state.test.ts).
 *
 * A state area is a tmpfs file with one writer: meta and the list of chunk hashes at 0, the state at 512 KiB (HANDOVER 5).
 * Large state is written ahead; at the switch only the chunks that changed since then are written, hashed and read.
 */
import { hash } from 'node:crypto'
import { readSync, writeSync } from 'node:fs'
import type { Meta, Snapshot } from './wire.ts'

/** Bytes in a chunk, which has a hash of its own (HANDOVER 5.2). */
const CHUNK = 8 * 1024
const HASH = 32
/** So many chunks are first compared in one go, because little of a large state changes in a tick. */
const SPAN = 32
const DATA_AT = 512 * 1024
/** The largest state: 64 MiB (HANDOVER 5.3). */
export const MAX_STATE = 64 * 1024 * 1024
const MAX_META = 64 * 1024

/** State, meta or hashes do not match the record, or are too large. */
export class StateError extends Error {}

const sha256 = (bytes: Uint8Array): Buffer => hash('sha256', bytes, 'buffer')
const sha256hex = (bytes: Uint8Array): string => hash('sha256', bytes, 'hex')

function parseMeta(bytes: Buffer, length: number): Meta {
  try {
    return JSON.parse(bytes.toString('utf8', 0, length)) as Meta
  } catch {
    // the message of JSON.parse is not passed on, as it quotes the text
    throw new StateError('meta is not JSON')
  }
}

function grow(buffer: Buffer, size: number): Buffer {
  return buffer.length >= size ? buffer : Buffer.allocUnsafeSlow(Math.max(CHUNK, size))
}

export interface ReadState {
  meta: Meta
  /** A view of the reader's buffer, valid until the next read. */
  state: Buffer
  /** Number of chunks that changed since the last read. */
  changed: number
}

/** Runs all steps. */
function whole<T>(steps: Generator<void, T>): T {
  for (;;) {
    const { done, value } = steps.next()
    if (done) return value
  }
}

/** The writing side: a child has one, over its own outbox. */
export class Outbox {
  readonly #fd: number
  /** A copy of the file's contents, to find changed chunks. */
  #shadow: Buffer = Buffer.allocUnsafeSlow(0)
  #shadowLength = 0
  #list: Buffer = Buffer.allocUnsafeSlow(CHUNK)
  #rooted: Buffer = Buffer.allocUnsafeSlow(CHUNK)

  constructor(fd: number) {
    this.#fd = fd
  }

  /** Writes a consistent snapshot. Only chunks that differ from the last snapshot are written and hashed. */
  write(state: Uint8Array, meta: Meta): Snapshot & { changed: number } {
    return whole(this.writing(state, meta))
  }

  /** Like `write`, in steps of at most {@link SPAN} chunks, so that the caller can do other work in between. */
  *writing(state: Uint8Array, meta: Meta): Generator<void, Snapshot & { changed: number }> {
    const length = state.length
    if (length > MAX_STATE) throw new StateError(`state is ${length} bytes, at most ${MAX_STATE}`)
    const bytes = Buffer.from(state.buffer, state.byteOffset, length)
    if (length <= CHUNK) return this.#writeWhole(bytes, meta)
    const chunkCount = Math.ceil(length / CHUNK)
    this.#reserve(length, chunkCount)
    let changed = 0
    for (let i = 0; i < chunkCount; i++) {
      const start = i * CHUNK
      if (i % SPAN === 0) {
        yield
        const far = start + SPAN * CHUNK
        if (far <= length && far <= this.#shadowLength && bytes.compare(this.#shadow, start, far, start, far) === 0) {
          i += SPAN - 1
          continue
        }
      }
      const end = Math.min(start + CHUNK, length)
      const known = end <= this.#shadowLength && (end - start === CHUNK || end === this.#shadowLength)
      if (known && bytes.compare(this.#shadow, start, end, start, end) === 0) continue
      bytes.copy(this.#shadow, start, start, end)
      sha256(bytes.subarray(start, end)).copy(this.#list, i * HASH)
      writeSync(this.#fd, bytes, start, end - start, DATA_AT + start)
      changed++
    }
    this.#shadowLength = length
    return { ...this.#writeRooted(meta, this.#list, chunkCount * HASH), chunkCount, length, changed }
  }

  /** Writes a small state in the place of the list of hashes: one write, one hash (HANDOVER 5.2). */
  #writeWhole(bytes: Buffer, meta: Meta): Snapshot & { changed: number } {
    const { length } = bytes
    return { ...this.#writeRooted(meta, bytes, length), chunkCount: 0, length, changed: 1 }
  }

  /** Writes meta and `tail` (the list of hashes, or a small state), the bytes that the root covers. */
  #writeRooted(meta: Meta, tail: Buffer, tailLength: number): { metaLength: number; root: string } {
    const text = JSON.stringify(meta)
    this.#rooted = grow(this.#rooted, text.length * 3 + tailLength)
    const metaLength = this.#rooted.write(text)
    if (metaLength > MAX_META) throw new StateError(`meta is ${metaLength} bytes, at most ${MAX_META}`)
    tail.copy(this.#rooted, metaLength, 0, tailLength)
    const rooted = this.#rooted.subarray(0, metaLength + tailLength)
    writeSync(this.#fd, rooted, 0, rooted.length, 0)
    return { metaLength, root: sha256hex(rooted) }
  }

  #reserve(length: number, chunkCount: number): void {
    if (this.#shadow.length < length) {
      this.#shadow = grow(this.#shadow, length)
      this.#shadowLength = 0
    }
    if (this.#list.length < chunkCount * HASH) {
      this.#list = grow(this.#list, chunkCount * HASH)
      this.#shadowLength = 0
    }
  }
}

/** The reading side, over the predecessor's outbox or over the inbox that the body fills. */
export class StateReader {
  readonly #fd: number
  #data: Buffer = Buffer.allocUnsafeSlow(0)
  /** Hashes of the chunks in #data, computed by this reader. */
  #own: Buffer = Buffer.allocUnsafeSlow(0)
  #have = 0
  #haveLength = 0
  #rooted: Buffer = Buffer.allocUnsafeSlow(CHUNK)

  constructor(fd: number) {
    this.#fd = fd
  }

  /**
   * Reads a snapshot. Chunks whose hash is known from an earlier read are not read again. The returned `state` is a view of
   * the reader's buffer, valid until the next read. Throws {@link StateError} when any byte does not match `snapshot.root`.
   */
  read(snapshot: Snapshot): ReadState {
    return whole(this.reading(snapshot))
  }

  /** Like `read`, in steps of at most {@link SPAN} chunks, so that the caller can do other work in between. */
  *reading(snapshot: Snapshot): Generator<void, ReadState> {
    const { metaLength, chunkCount, length } = snapshot
    const fits = metaLength > 0 && metaLength <= MAX_META && length >= 0 && length <= MAX_STATE
    const small = length <= CHUNK
    if (!fits || chunkCount !== (small ? 0 : Math.ceil(length / CHUNK))) {
      throw new StateError('the snapshot has impossible sizes')
    }
    const listLength = chunkCount * HASH
    const rootedLength = metaLength + (small ? length : listLength)
    this.#rooted = grow(this.#rooted, rootedLength)
    this.#fill(this.#rooted, 0, rootedLength, 0)
    const rooted = this.#rooted.subarray(0, rootedLength)
    if (sha256hex(rooted) !== snapshot.root) throw new StateError('meta and what follows do not match their root')
    if (small)
      return { meta: parseMeta(rooted, metaLength), state: Buffer.from(rooted.subarray(metaLength)), changed: 1 }
    this.#reserve(length, listLength)
    let changed = 0
    for (let i = 0; i < chunkCount; i++) {
      const at = metaLength + i * HASH
      const start = i * CHUNK
      if (i % SPAN === 0) yield
      if (i % SPAN === 0 && i + SPAN <= this.#have && start + SPAN * CHUNK <= Math.min(length, this.#haveLength)) {
        if (rooted.compare(this.#own, i * HASH, (i + SPAN) * HASH, at, at + SPAN * HASH) === 0) {
          i += SPAN - 1
          continue
        }
      }
      const size = Math.min(CHUNK, length - start)
      const held = i < this.#have && start + size <= this.#haveLength
      if (held && rooted.compare(this.#own, i * HASH, i * HASH + HASH, at, at + HASH) === 0) continue
      this.#fill(this.#data, start, size, DATA_AT + start)
      sha256(this.#data.subarray(start, start + size)).copy(this.#own, i * HASH)
      if (rooted.compare(this.#own, i * HASH, i * HASH + HASH, at, at + HASH) !== 0) {
        // #data still matches #own, so the next read can go on from here
        throw new StateError(`chunk ${i} of the state does not match its hash`)
      }
      changed++
    }
    this.#have = chunkCount
    this.#haveLength = length
    return { meta: parseMeta(rooted, metaLength), state: this.#data.subarray(0, length), changed }
  }

  #reserve(length: number, listLength: number): void {
    if (this.#data.length < length || this.#own.length < listLength) {
      this.#data = grow(this.#data, length)
      this.#own = grow(this.#own, listLength)
      this.#have = 0
      this.#haveLength = 0
    }
  }

  #fill(into: Buffer, at: number, length: number, position: number): void {
    let done = 0
    while (done < length) {
      const n = readSync(this.#fd, into, at + done, length - done, position + done)
      if (n === 0) throw new StateError('the state area ends early')
      done += n
    }
  }
}
