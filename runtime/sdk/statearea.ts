/**
 * Invariant: a snapshot is used only after every byte of it was hashed by the reader against the root in the record
 * (HANDOVER 5.7).
 *
 * A state area is a tmpfs file with one writer: meta and the list of chunk hashes at 0, the state at 256 KiB
 * (HANDOVER 5). Large state is written ahead; at the switch only chunks that changed since are written, hashed and read.
 */
import { hash } from 'node:crypto'
import { readSync, writeSync } from 'node:fs'
import type { Meta, Snapshot } from './wire.ts'

/** HANDOVER 5.2 */
const CHUNK = 16 * 1024
const HASH = 32
const DATA_AT = 256 * 1024
/** HANDOVER 5.3: 64 MiB of state at most. */
export const MAX_STATE = 64 * 1024 * 1024
const MAX_META = 64 * 1024
const MAX_CHUNKS = MAX_STATE / CHUNK

/** The state, the meta or the hashes are not what the record says, or too large. */
export class StateError extends Error {}

const sha256 = (bytes: Uint8Array): Buffer => hash('sha256', bytes, 'buffer')

function grow(buffer: Buffer, size: number): Buffer {
  return buffer.length >= size ? buffer : Buffer.allocUnsafeSlow(Math.max(CHUNK, size))
}

/** The writing side, one for each child over its own outbox. */
export class Outbox {
  readonly #fd: number
  /** What the file holds, to find out what changed. */
  #shadow: Buffer = Buffer.allocUnsafeSlow(0)
  #shadowLength = 0
  #list: Buffer = Buffer.allocUnsafeSlow(CHUNK)
  #rooted: Buffer = Buffer.allocUnsafeSlow(CHUNK)

  constructor(fd: number) {
    this.#fd = fd
  }

  /** Writes a consistent snapshot; only chunks that differ from the one before are written and hashed. */
  write(state: Uint8Array, meta: Meta): Snapshot & { changed: number } {
    const length = state.length
    if (length > MAX_STATE) throw new StateError(`state is ${length} bytes, at most ${MAX_STATE}`)
    const bytes = Buffer.from(state.buffer, state.byteOffset, length)
    const chunkCount = Math.ceil(length / CHUNK)
    this.#reserve(length, chunkCount)
    let changed = 0
    for (let i = 0; i < chunkCount; i++) {
      const start = i * CHUNK
      const end = Math.min(start + CHUNK, length)
      const known = end <= this.#shadowLength && (end - start === CHUNK || end === this.#shadowLength)
      if (known && bytes.compare(this.#shadow, start, end, start, end) === 0) continue
      bytes.copy(this.#shadow, start, start, end)
      sha256(bytes.subarray(start, end)).copy(this.#list, i * HASH)
      writeSync(this.#fd, bytes, start, end - start, DATA_AT + start)
      changed++
    }
    this.#shadowLength = length
    const text = Buffer.from(JSON.stringify(meta))
    if (text.length > MAX_META) throw new StateError(`meta is ${text.length} bytes, at most ${MAX_META}`)
    const listLength = chunkCount * HASH
    this.#rooted = grow(this.#rooted, text.length + listLength)
    text.copy(this.#rooted)
    this.#list.copy(this.#rooted, text.length, 0, listLength)
    writeSync(this.#fd, this.#rooted, 0, text.length + listLength, 0)
    const root = sha256(this.#rooted.subarray(0, text.length + listLength)).toString('hex')
    return { metaLength: text.length, chunkCount, length, root, changed }
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

/** The reading side: over the predecessor's outbox, or over the inbox that the body fills. */
export class StateReader {
  readonly #fd: number
  #data: Buffer = Buffer.allocUnsafeSlow(0)
  /** Hashes of the chunks in #data, computed here. */
  #own: Buffer = Buffer.allocUnsafeSlow(0)
  #have = 0
  #haveLength = 0
  #rooted: Buffer = Buffer.allocUnsafeSlow(CHUNK)

  constructor(fd: number) {
    this.#fd = fd
  }

  /**
   * Reads a snapshot. Chunks whose hash is already held from an earlier read are not read again.
   * The returned `state` is a view of the reader's buffer: whoever keeps it must not read another snapshot.
   * Throws {@link StateError} when any byte differs from what `snapshot.root` promises.
   */
  read(snapshot: Snapshot): { meta: Meta; state: Buffer; changed: number } {
    const { metaLength, chunkCount, length } = snapshot
    const fits = metaLength > 0 && metaLength <= MAX_META && length >= 0 && length <= MAX_STATE
    if (!fits || chunkCount !== Math.ceil(length / CHUNK) || chunkCount > MAX_CHUNKS) {
      throw new StateError('the snapshot has impossible sizes')
    }
    const listLength = chunkCount * HASH
    this.#rooted = grow(this.#rooted, metaLength + listLength)
    this.#fill(this.#rooted, 0, metaLength + listLength, 0)
    const rooted = this.#rooted.subarray(0, metaLength + listLength)
    if (sha256(rooted).toString('hex') !== snapshot.root) throw new StateError('the chunk list does not match its root')
    this.#reserve(length, listLength)
    let changed = 0
    for (let i = 0; i < chunkCount; i++) {
      const at = metaLength + i * HASH
      const start = i * CHUNK
      const size = Math.min(CHUNK, length - start)
      const held = i < this.#have && start + size <= this.#haveLength
      if (held && rooted.compare(this.#own, i * HASH, i * HASH + HASH, at, at + HASH) === 0) continue
      this.#fill(this.#data, start, size, DATA_AT + start)
      sha256(this.#data.subarray(start, start + size)).copy(this.#own, i * HASH)
      if (rooted.compare(this.#own, i * HASH, i * HASH + HASH, at, at + HASH) !== 0) {
        this.#have = 0
        throw new StateError(`chunk ${i} of the state does not match its hash`)
      }
      changed++
    }
    this.#have = chunkCount
    this.#haveLength = length
    const meta = JSON.parse(rooted.toString('utf8', 0, metaLength)) as Meta
    return { meta, state: this.#data.subarray(0, length), changed }
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
