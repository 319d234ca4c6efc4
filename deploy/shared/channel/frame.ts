/**
 * Transport frames: `length (2, big endian) | ChaChaPoly(type (1) | data) `. Pure: bytes in, bytes out.
 * Invariant: a counter is used once in a direction, whatever keys it has had, and no byte of a frame is returned before its tag is verified
 * (test/deploy/shared/channel/session.test.ts).
 */
import { createCipheriv, createDecipheriv } from 'node:crypto'
import { MAX_MESSAGE, nonce, TAG_LENGTH } from './noise.ts'
import { KEY_LENGTH } from './x25519.ts'

const CIPHER = 'chacha20-poly1305'
const AUTH = { authTagLength: TAG_LENGTH } as const
/** 2^64 - 1, which no frame has (Noise 5.1). */
const REKEY_NONCE = Buffer.concat([Buffer.alloc(4), Buffer.alloc(8, 0xff)])
/** Types of frames (CHANNEL 4.3). */
const DATA = 0x00
const END = 0x01
const REKEY = 0x02
const KEEP_ALIVE = 0x03
const HANDSHAKE = 0x04

const TYPE_DATA = Buffer.of(DATA)
export const HEADER_LENGTH = 2
/** Data bytes that fit in one frame (CHANNEL 4.1). */
export const MAX_DATA = MAX_MESSAGE - TAG_LENGTH - 1

/** What one key, and one direction with all its keys, may seal (CHANNEL 4.6, CHANNEL 4.8). */
export interface FrameLimits {
  /** of one direction: far below the 2^64 - 1 of Noise, and exact in a double */
  total: number
  /** of one key, with the rekey frame that is its last */
  frames: number
  /** of plaintext that one key seals */
  bytes: number
}
export const FRAME_LIMITS: Readonly<FrameLimits> = { total: 2 ** 48, frames: 2 ** 20, bytes: 2 ** 32 }

/** `confirm` is the empty frame that the initiator sends first; the robot opens no session before it (CHANNEL 3.6). */
export type Frame = { kind: 'confirm' | 'end' | 'rekey' | 'keep-alive' } | { kind: 'data' | 'handshake'; data: Buffer }

/** The plaintext of the frame that is being sealed: the parts of it are joined, because each update() of a cipher is dear. */
const PLAIN = Buffer.allocUnsafeSlow(MAX_DATA + 1)

/** The key of one direction, its successors, and what they have sealed or opened. */
class DirectionKey {
  #key: Buffer
  readonly #limits: FrameLimits
  #counter = 0
  #frames = 0
  #bytes = 0

  constructor(key: Uint8Array, limits: FrameLimits) {
    this.#key = Buffer.from(key)
    this.#limits = limits
  }

  /** The key and nonce of the next frame. Throws when the limits do not allow a frame of `length` bytes of plaintext. */
  next(length: number): [Buffer, Buffer] {
    const { total, frames, bytes } = this.#limits
    if (this.#counter >= total) throw new Error('frame: this direction has sealed as much as it may') // ends the session (CHANNEL 4.6)
    if (this.#frames >= frames || this.#bytes + length > bytes)
      throw new Error('frame: this key has sealed as much as it may') // also at a receiver, whose peer did not renew (CHANNEL 4.8)
    this.#frames++
    this.#bytes += length
    return [this.#key, nonce(this.#counter++)] // never a counter twice (CHANNEL 4.2)
  }

  /** True when a frame of `length` bytes would leave no room for the rekey frame. */
  lacksRoom(length: number): boolean {
    const { frames, bytes } = this.#limits
    return this.#frames + 2 > frames || this.#bytes + length + 1 > bytes
  }

  /** Rekey() of Noise 4.2. */
  renew(): void {
    this.replace(createCipheriv(CIPHER, this.#key, REKEY_NONCE, AUTH).update(Buffer.alloc(KEY_LENGTH)))
  }

  /** The counter goes on (Noise 11.3), and the old key is erased. */
  replace(key: Uint8Array): void {
    this.#key.fill(0)
    this.#key = Buffer.from(key)
    this.#frames = 0
    this.#bytes = 0
  }
}

/** Seals the frames of one direction. Every method returns parts to be written in order: one frame, or a rekey frame and one. */
export class Sealer {
  readonly #key: DirectionKey
  #expired = false

  constructor(key: Uint8Array, limits: Partial<FrameLimits> = {}) {
    this.#key = new DirectionKey(key, { ...FRAME_LIMITS, ...limits })
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

  keepAlive(): Buffer {
    return Buffer.concat(this.#seal([Buffer.of(KEEP_ALIVE)]))
  }

  /** A message of a fresh handshake, or the laptop's confirmation, which is empty (CHANNEL 4.11). */
  handshake(message: Uint8Array): Buffer {
    return Buffer.concat(this.#seal([Buffer.of(HANDSHAKE), message]))
  }

  /** What is sealed from now on has this key: that of a fresh handshake (CHANNEL 4.11). */
  replaceKey(key: Uint8Array): void {
    this.#expired = false
    this.#key.replace(key)
  }

  /** The present key seals one more frame, the rekey frame, which goes before the next one (CHANNEL 4.8). */
  expire(): void {
    this.#expired = true
  }

  #seal(parts: readonly Uint8Array[]): Buffer[] {
    const length = parts.reduce((sum, part) => sum + part.length, 0)
    if (length > MAX_DATA + 1) throw new Error(`frame: at most ${MAX_DATA + 1} bytes, got ${length}`)
    const out: Buffer[] = []
    if (this.#expired || this.#key.lacksRoom(length)) {
      this.#frame(out, [Buffer.of(REKEY)], 1)
      this.#key.renew()
      this.#expired = false
    }
    this.#frame(out, parts, length)
    return out
  }

  #frame(out: Buffer[], parts: readonly Uint8Array[], length: number): void {
    const cipher = createCipheriv(CIPHER, ...this.#key.next(length), AUTH)
    const header = Buffer.allocUnsafe(HEADER_LENGTH)
    header.writeUInt16BE(length + TAG_LENGTH)
    let at = 0
    for (const part of parts) {
      PLAIN.set(part, at)
      at += part.length
    }
    out.push(header, cipher.update(PLAIN.subarray(0, length)))
    cipher.final()
    out.push(cipher.getAuthTag())
  }
}

const CONTROL: Readonly<Record<number, 'end' | 'rekey' | 'keep-alive'>> = {
  [END]: 'end',
  [REKEY]: 'rekey',
  [KEEP_ALIVE]: 'keep-alive',
}

/** Opens the frames of one direction. After one refused frame it refuses every frame (CHANNEL 4.4). */
export class Opener {
  readonly #key: DirectionKey
  #dead = false

  constructor(key: Uint8Array, limits: Partial<FrameLimits> = {}) {
    this.#key = new DirectionKey(key, { ...FRAME_LIMITS, ...limits })
  }

  /** `sealed` is a frame without its length. Throws when it is not the next frame of this direction. */
  open(sealed: Uint8Array): Frame {
    if (this.#dead) throw new Error('frame: an earlier frame was refused')
    this.#dead = true
    if (sealed.length < TAG_LENGTH || sealed.length > MAX_MESSAGE) throw new Error(`frame: length ${sealed.length}`)
    const split = sealed.length - TAG_LENGTH
    const decipher = createDecipheriv(CIPHER, ...this.#key.next(split), AUTH)
    const plain = decipher.update(sealed.subarray(0, split))
    decipher.setAuthTag(sealed.subarray(split))
    decipher.final() // throws before any byte of the frame is returned (CHANNEL 4.4)
    const frame = parse(plain)
    if (frame.kind === 'rekey') this.#key.renew() // both ends change the key at the same frame (CHANNEL 4.8)
    this.#dead = false
    return frame
  }

  /** What is opened from now on has this key: that of a fresh handshake (CHANNEL 4.11). */
  replaceKey(key: Uint8Array): void {
    this.#key.replace(key)
  }
}

function parse(plain: Buffer): Frame {
  if (plain.length === 0) return { kind: 'confirm' }
  if (plain[0] === DATA && plain.length > 1) return { kind: 'data', data: plain.subarray(1) }
  if (plain[0] === HANDSHAKE) return { kind: 'handshake', data: plain.subarray(1) }
  const kind = plain.length === 1 && CONTROL[plain[0] ?? DATA]
  if (kind) return { kind }
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
