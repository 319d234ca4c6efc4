/**
 * The record of a program's write to a simulated output, PWM or servo: 24 bytes, applied whole or not at all
 * (HANDLES 4).
 *
 * | at | size | little endian |
 * |---|---|---|
 * | 0 | 2 | magic 0x4d52 |
 * | 2 | 2 | handle id |
 * | 4 | 4 | fence |
 * | 8 | 8 | ns of CLOCK_MONOTONIC at the write |
 * | 16 | 8 | value, IEEE 754 double |
 */
export const WRITE_RECORD_SIZE = 24
const RECORD_MAGIC = 0x4d52

export interface WriteRecord {
  id: number
  fence: number
  ns: bigint
  value: number
}

/** Encodes a record into `view`, which must cover WRITE_RECORD_SIZE bytes (HANDLES 4.1). */
export function encodeWriteRecord(view: DataView, id: number, fence: number, ns: bigint, value: number): void {
  view.setUint16(0, RECORD_MAGIC, true)
  view.setUint16(2, id, true)
  view.setUint32(4, fence, true)
  view.setBigUint64(8, ns, true)
  view.setFloat64(16, value, true)
}

/**
 * Splits a stream of bytes into records. Bytes that begin no record are skipped until the next magic number, so a
 * program that writes garbage harms only its own writes (HANDLES 4.4).
 */
export class RecordReader {
  #unread = new Uint8Array(0)
  /** Number of skipped bytes. */
  skipped = 0

  push(chunk: Uint8Array, onRecord: (record: WriteRecord) => void): void {
    let bytes = chunk
    if (this.#unread.length > 0) {
      bytes = new Uint8Array(this.#unread.length + chunk.length)
      bytes.set(this.#unread)
      bytes.set(chunk, this.#unread.length)
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    let at = 0
    while (bytes.length - at >= WRITE_RECORD_SIZE) {
      if (view.getUint16(at, true) !== RECORD_MAGIC) {
        at++
        this.skipped++
        continue
      }
      onRecord({
        id: view.getUint16(at + 2, true),
        fence: view.getUint32(at + 4, true),
        ns: view.getBigUint64(at + 8, true),
        value: view.getFloat64(at + 16, true),
      })
      at += WRITE_RECORD_SIZE
    }
    // a copy, since the caller reuses the chunk; Buffer's slice would share its memory
    this.#unread = new Uint8Array(bytes.subarray(at))
  }
}
