/**
 * Transport frames: `length (2, big endian) | ChaChaPoly(type (1) | data) `. Pure: bytes in, bytes out.
 * Invariant: a counter is used once per key, and no byte of a frame is returned before its tag is verified
 * (test/channel/session.test.ts).
 */
import { createCipheriv, createDecipheriv } from 'node:crypto'
import { MAX_MESSAGE, nonce, TAG_LENGTH } from './noise.ts'

const CIPHER = 'chacha20-poly1305'
const AUTH = { authTagLength: TAG_LENGTH } as const
/** Types of frames (CHANNEL 4.3); 0x02 and above are reserved for rekeying (CHANNEL 7.1). */
const DATA = 0x00
const END = 0x01

export const HEADER_LENGTH = 2
/** Data bytes that fit in one frame (CHANNEL 4.1). */
export const MAX_DATA = MAX_MESSAGE - TAG_LENGTH - 1
/** Frames that one key may seal: far below the 2^64 - 1 of Noise, and exact in a double (CHANNEL 4.6). */
export const MAX_FRAMES = 2 ** 48

/** `confirm` is the empty frame that the initiator sends first; the robot opens no session before it (CHANNEL 3.6). */
export type Frame = { kind: 'confirm' } | { kind: 'data'; data: Buffer } | { kind: 'end' }

/** Seals the frames of one direction. Every method returns the parts of one frame with its length, to be written in order. */
export class Sealer {
  readonly #key: Uint8Array
  readonly #limit: number
  #counter = 0

  constructor(key: Uint8Array, limit: number = MAX_FRAMES) {
    this.#key = key
    this.#limit = limit
  }

  confirm(): Buffer {
    return Buffer.concat(this.#seal([]))
  }

  /** At most {@link MAX_DATA} bytes in all; `parts` go into one frame. */
  data(parts: readonly Uint8Array[]): Buffer[] {
    return this.#seal([TYPE_DATA, ...parts])
  }

  end(): Buffer {
    return Buffer.concat(this.#seal([Buffer.of(END)]))
  }

  #seal(parts: readonly Uint8Array[]): Buffer[] {
    if (this.#counter >= this.#limit) throw new Error('frame: this key has sealed as much as it may') // ends the session (CHANNEL 4.6)
    const cipher = createCipheriv(CIPHER, this.#key, nonce(this.#counter++), AUTH) // never a counter twice (CHANNEL 4.2)
    const header = Buffer.allocUnsafe(HEADER_LENGTH)
    const out = [header]
    let length = TAG_LENGTH
    for (const part of parts) {
      length += part.length
      out.push(cipher.update(part))
    }
    if (length > MAX_MESSAGE) throw new Error(`frame: at most ${MAX_MESSAGE} bytes, got ${length}`)
    cipher.final()
    out.push(cipher.getAuthTag())
    header.writeUInt16BE(length)
    return out
  }
}

const TYPE_DATA = Buffer.of(DATA)

/** Opens the frames of one direction. After one refused frame it refuses every frame (CHANNEL 4.4). */
export class Opener {
  readonly #key: Uint8Array
  #counter = 0
  #dead = false

  constructor(key: Uint8Array) {
    this.#key = key
  }

  /** `sealed` is a frame without its length. Throws when it is not the next frame of this direction. */
  open(sealed: Uint8Array): Frame {
    if (this.#dead) throw new Error('frame: an earlier frame was refused')
    this.#dead = true
    if (sealed.length < TAG_LENGTH || sealed.length > MAX_MESSAGE) throw new Error(`frame: length ${sealed.length}`)
    const split = sealed.length - TAG_LENGTH
    const decipher = createDecipheriv(CIPHER, this.#key, nonce(this.#counter++), AUTH)
    const plain = decipher.update(sealed.subarray(0, split))
    decipher.setAuthTag(sealed.subarray(split))
    decipher.final() // throws before any byte of the frame is returned (CHANNEL 4.4)
    const frame = parse(plain)
    this.#dead = false
    return frame
  }
}

function parse(plain: Buffer): Frame {
  if (plain.length === 0) return { kind: 'confirm' }
  if (plain[0] === DATA && plain.length > 1) return { kind: 'data', data: plain.subarray(1) }
  if (plain[0] === END && plain.length === 1) return { kind: 'end' }
  throw new Error(`frame: unknown type ${plain[0]} with ${plain.length - 1} bytes`) // other types are reserved (CHANNEL 4.3)
}

/** Splits a byte stream into frames by their lengths. Holds at most one incomplete frame, whatever the sizes of the pieces. */
export class Deframer {
  readonly #max: number
  /** first byte of a length whose second byte has not come yet, or -1 */
  #high = -1
  /** length of the incomplete frame; 0: there is none */
  #length = 0
  #filled = 0
  /** buffer for the pieces of incomplete frames, allocated when first needed */
  #pieces: Buffer | undefined

  constructor(max: number = MAX_MESSAGE) {
    this.#max = max
  }

  /** True between two frames: only there may the stream end. */
  get clean(): boolean {
    return this.#high < 0 && this.#length === 0
  }

  /**
   * Calls `each` with every frame that `chunk` completes, in order, until `each` returns false. Returns the bytes after the last
   * frame given to `each`. A frame is only valid during the call. Throws on a length that no frame can have.
   */
  push(chunk: Buffer, each: (frame: Buffer) => boolean): Buffer {
    let at = 0
    while (at < chunk.length) {
      if (this.#length === 0) {
        if (this.#high < 0 && chunk.length - at < HEADER_LENGTH) {
          this.#high = chunk[at] ?? 0
          return chunk.subarray(chunk.length)
        }
        let length: number
        if (this.#high < 0) {
          length = chunk.readUInt16BE(at)
          at += 2
        } else {
          length = this.#high * 256 + (chunk[at] ?? 0)
          at += 1
          this.#high = -1
        }
        if (length < TAG_LENGTH || length > this.#max) throw new Error(`frame: length ${length}`)
        if (chunk.length - at >= length) {
          const whole = chunk.subarray(at, at + length)
          at += length
          if (!each(whole)) break
          continue
        }
        this.#length = length
        this.#filled = 0
      }
      this.#pieces ??= Buffer.allocUnsafeSlow(this.#max)
      const end = Math.min(chunk.length, at + this.#length - this.#filled)
      chunk.copy(this.#pieces, this.#filled, at, end)
      this.#filled += end - at
      at = end
      if (this.#filled === this.#length) {
        const whole = this.#pieces.subarray(0, this.#length)
        this.#length = 0
        if (!each(whole)) break
      }
    }
    return chunk.subarray(at)
  }
}
