/**
 * Encodes and decodes the frames between programs and the broker (HANDLES 7).
 *
 * Invariant: a frame with an invalid length is refused before any of it is kept (test/drivers/program/codec.test.ts).
 *
 * Little endian; `length` counts the bytes after it.
 * request: u16 length, u32 request id, u16 handle id, u8 op, u32 fence, payload
 * reply:   u16 length, u32 request id, u8 status, payload, or utf8 `kind NUL message` when the status is not 0
 */
import { HardwareError, type HardwareErrorKind } from '../../errors.ts'

export const MAX_PAYLOAD = 4096
const REQUEST_HEAD = 11
const REPLY_HEAD = 5
const MAX_MESSAGE = 300

/** Operations (HANDLES 7.4). `get` and `set` carry a double, I2C ones a u16 length and bytes, the SPI one bytes. */
export const OP = { get: 1, set: 2, i2cRead: 3, i2cWrite: 4, i2cTransfer: 5, spiTransfer: 6 } as const

export const KINDS: readonly HardwareErrorKind[] = [
  'no-device',
  'no-ack',
  'bus',
  'busy',
  'revoked',
  'unsupported',
  'other',
]

export interface Request {
  readonly request: number
  readonly id: number
  readonly op: number
  readonly fence: number
  readonly payload: Uint8Array
}

export interface Reply {
  readonly request: number
  readonly result: Uint8Array | HardwareError
}

export class FrameError extends Error {}

export function encodeRequest({ request, id, op, fence, payload }: Request): Uint8Array {
  if (payload.length > MAX_PAYLOAD) {
    throw new FrameError(`expected at most ${MAX_PAYLOAD} bytes of payload, got ${payload.length}`)
  }
  const bytes = new Uint8Array(2 + REQUEST_HEAD + payload.length)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, REQUEST_HEAD + payload.length, true)
  view.setUint32(2, request, true)
  view.setUint16(6, id, true)
  view.setUint8(8, op)
  view.setUint32(9, fence, true)
  bytes.set(payload, 2 + REQUEST_HEAD)
  return bytes
}

function decodeRequest(body: Uint8Array): Request {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength)
  return {
    request: view.getUint32(0, true),
    id: view.getUint16(4, true),
    op: view.getUint8(6),
    fence: view.getUint32(7, true),
    payload: copied(body, REQUEST_HEAD),
  }
}

export function encodeReply({ request, result }: Reply): Uint8Array {
  const failed = result instanceof HardwareError
  const payload = failed ? new TextEncoder().encode(`${result.kind}\0${result.message.slice(0, MAX_MESSAGE)}`) : result
  if (payload.length > MAX_PAYLOAD) {
    throw new FrameError(`expected at most ${MAX_PAYLOAD} bytes of payload, got ${payload.length}`)
  }
  const bytes = new Uint8Array(2 + REPLY_HEAD + payload.length)
  const view = new DataView(bytes.buffer)
  view.setUint16(0, REPLY_HEAD + payload.length, true)
  view.setUint32(2, request, true)
  view.setUint8(6, failed ? 1 : 0)
  bytes.set(payload, 2 + REPLY_HEAD)
  return bytes
}

function decodeReply(body: Uint8Array): Reply {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength)
  const request = view.getUint32(0, true)
  const payload = copied(body, REPLY_HEAD)
  if (view.getUint8(4) === 0) return { request, result: payload }
  const [word = '', message = ''] = new TextDecoder().decode(payload).split('\0', 2)
  const kind = KINDS.find((known) => known === word) ?? 'other'
  return { request, result: new HardwareError(kind, message) }
}

/** Splits a stream of frames. Throws FrameError for an invalid length; after that it is unusable (HANDLES 7.2). */
class FrameReader<T> {
  readonly #head: number
  readonly #decode: (body: Uint8Array) => T
  #unread: Uint8Array = new Uint8Array(0)

  constructor(head: number, decode: (body: Uint8Array) => T) {
    this.#head = head
    this.#decode = decode
  }

  /** The bytes of an unfinished frame. */
  get unread(): Uint8Array {
    return this.#unread
  }

  push(chunk: Uint8Array): T[] {
    let bytes = chunk
    if (this.#unread.length > 0) {
      bytes = new Uint8Array(this.#unread.length + chunk.length)
      bytes.set(this.#unread)
      bytes.set(chunk, this.#unread.length)
    }
    const frames: T[] = []
    let at = 0
    while (bytes.length - at >= 2) {
      const length = (bytes[at] as number) | ((bytes[at + 1] as number) << 8)
      if (length < this.#head || length > this.#head + MAX_PAYLOAD) {
        throw new FrameError(`expected a frame of ${this.#head} to ${this.#head + MAX_PAYLOAD} bytes, got ${length}`)
      }
      if (bytes.length - at < 2 + length) break
      frames.push(this.#decode(bytes.subarray(at + 2, at + 2 + length)))
      at += 2 + length
    }
    this.#unread = copied(bytes, at)
    return frames
  }
}

export class RequestReader extends FrameReader<Request> {
  constructor() {
    super(REQUEST_HEAD, decodeRequest)
  }
}

export class ReplyReader extends FrameReader<Reply> {
  constructor() {
    super(REPLY_HEAD, decodeReply)
  }
}

/** A real copy: Buffer's own `slice` shares memory, which the next read overwrites. */
function copied(bytes: Uint8Array, from: number): Uint8Array {
  return new Uint8Array(bytes.subarray(from))
}

export function encodeNumber(value: number): Uint8Array {
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setFloat64(0, value, true)
  return bytes
}

/** Null when there are fewer than 8 bytes. */
export function decodeNumber(bytes: Uint8Array): number | null {
  if (bytes.length < 8) return null
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getFloat64(0, true)
}
