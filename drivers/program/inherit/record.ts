/**
 * Invariant: a record is 24 bytes and is applied whole or not at all (HANDLES 4).
 *
 * | at | size | little endian |
 * |---|---|---|
 * | 0 | 2 | magic 0x4d52 |
 * | 2 | 2 | handle id |
 * | 4 | 4 | fence |
 * | 8 | 8 | ns of CLOCK_MONOTONIC at the write |
 * | 16 | 8 | value, IEEE 754 double |
 */
export const RECORD_SIZE = 24
const RECORD_MAGIC = 0x4d52

export interface WriteRecord {
  id: number
  fence: number
  ns: bigint
  value: number
}

/** HANDLES 4.1. `view` covers RECORD_SIZE bytes. */
export function encodeRecord(view: DataView, id: number, fence: number, ns: bigint, value: number): void {
  view.setUint16(0, RECORD_MAGIC, true)
  view.setUint16(2, id, true)
  view.setUint32(4, fence, true)
  view.setBigUint64(8, ns, true)
  view.setFloat64(16, value, true)
}

/**
 * Cuts a stream of bytes into records. Bytes that begin no record are skipped one by one until a magic is found, so a
 * program that writes rubbish harms only its own writes (HANDLES 4.4).
 */
export class RecordReader {
  #rest = new Uint8Array(0)
  /** Bytes that were skipped. */
  skipped = 0

  push(chunk: Uint8Array, onRecord: (record: WriteRecord) => void): void {
    let bytes = chunk
    if (this.#rest.length > 0) {
      bytes = new Uint8Array(this.#rest.length + chunk.length)
      bytes.set(this.#rest)
      bytes.set(chunk, this.#rest.length)
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    let at = 0
    while (bytes.length - at >= RECORD_SIZE) {
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
      at += RECORD_SIZE
    }
    // a copy: the caller fills the chunk again, and slice of a Buffer shares its memory
    this.#rest = new Uint8Array(bytes.subarray(at))
  }
}
