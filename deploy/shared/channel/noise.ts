/**
 * The Noise handshake (revision 34) with 25519, ChaChaPoly and SHA256, as a pure state machine: bytes in, bytes out.
 * Invariant: after a refused message, and after split(), every call throws (test/deploy/shared/channel/noise.test.ts).
 */
import { createHash, createHmac } from 'node:crypto'
import { chacha20poly1305 } from '@noble/ciphers/chacha.js'
import { dh, generateKeyPair, KEY_LENGTH, type KeyPair } from './x25519.ts'

type Token = 'e' | 's' | 'ee' | 'es' | 'se' | 'ss' | 'psk'
interface Pattern {
  /** Static keys that the other side knows beforehand (Noise 7.2): of the initiator, of the responder. */
  readonly pre: { readonly initiator: boolean; readonly responder: boolean }
  readonly messages: readonly (readonly Token[])[]
}

const none = { initiator: false, responder: false }
const robot = { initiator: false, responder: true }
/**
 * Patterns of Noise 7.5 and 9.4. Sessions use IK and IKpsk2 (CHANNEL 3.10), pairings XX and XXpsk3 (CHANNEL 9.1).
 */
const PATTERNS = {
  NN: { pre: none, messages: [['e'], ['e', 'ee']] },
  NK: {
    pre: robot,
    messages: [
      ['e', 'es'],
      ['e', 'ee'],
    ],
  },
  KK: { pre: { initiator: true, responder: true }, messages: [['e', 'es', 'ss'], ['e', 'ee', 'se']] }, // biome-ignore format: one pattern a line
  IK: { pre: robot, messages: [['e', 'es', 's', 'ss'], ['e', 'ee', 'se']] }, // biome-ignore format: one pattern a line
  IKpsk2: { pre: robot, messages: [['e', 'es', 's', 'ss'], ['e', 'ee', 'se', 'psk']] }, // biome-ignore format: one pattern a line
  XX: { pre: none, messages: [['e'], ['e', 'ee', 's', 'es'], ['s', 'se']] }, // biome-ignore format: one pattern a line
  XXpsk3: { pre: none, messages: [['e'], ['e', 'ee', 's', 'es'], ['s', 'se', 'psk']] }, // biome-ignore format: one pattern a line
} as const satisfies Record<string, Pattern>
export type PatternName = keyof typeof PATTERNS
export const PATTERN_NAMES = Object.keys(PATTERNS) as PatternName[]

export const TAG_LENGTH = 16
export const MAX_MESSAGE = 65535
const EMPTY = new Uint8Array(0)

export interface HandshakeOptions {
  pattern: PatternName
  initiator: boolean
  prologue: Uint8Array
  /** own static key pair, if the pattern has one */
  static?: KeyPair
  /** the other side's static public key, if the pattern needs it beforehand */
  remoteStatic?: Uint8Array
  psk?: Uint8Array
  /** only for public test vectors: otherwise each handshake makes a new one (CHANNEL 3.4) */
  ephemeral?: KeyPair
}

/** Keys of the two directions, and the hash of the whole handshake. */
export interface Split {
  send: Uint8Array
  receive: Uint8Array
  hash: Uint8Array
}

export class Handshake {
  readonly #initiator: boolean
  readonly #messages: readonly (readonly Token[])[]
  readonly #static: KeyPair | undefined
  readonly #psk: Uint8Array | undefined
  readonly #hasPsk: boolean
  #ephemeral: KeyPair | undefined
  #remoteEphemeral: Uint8Array | undefined
  #remoteStatic: Uint8Array | undefined
  #ck: Uint8Array
  #h: Uint8Array
  #key: Uint8Array | undefined
  #nonce = 0
  #step = 0
  #failed = false

  constructor(options: HandshakeOptions) {
    const pattern: Pattern = PATTERNS[options.pattern]
    this.#initiator = options.initiator
    this.#messages = pattern.messages
    this.#static = options.static
    this.#remoteStatic = options.remoteStatic
    this.#ephemeral = options.ephemeral
    this.#psk = options.psk
    this.#hasPsk = pattern.messages.some((tokens) => tokens.includes('psk'))
    if (this.#hasPsk !== (options.psk?.length === KEY_LENGTH)) throw new Error('noise: psk does not fit the pattern')
    const name = Buffer.from(`Noise_${options.pattern}_25519_ChaChaPoly_SHA256`)
    this.#h = name.length <= 32 ? Buffer.concat([name, Buffer.alloc(32 - name.length)]) : sha256(name)
    this.#ck = this.#h
    this.#mixHash(options.prologue)
    if (pattern.pre.initiator) this.#mixHash(options.initiator ? this.#own().public : this.#remote())
    if (pattern.pre.responder) this.#mixHash(options.initiator ? this.#remote() : this.#own().public)
  }

  /**
   * The other side's static public key, once it is known. It is proven only when read() has returned for the message with
   * it.
   */
  get remoteStatic(): Uint8Array | undefined {
    return this.#remoteStatic
  }

  get done(): boolean {
    return this.#step === this.#messages.length
  }

  /** The next message, carrying `payload`. Throws when it is not this side's turn. */
  write(payload: Uint8Array): Uint8Array {
    const tokens = this.#turn(true)
    const out: Uint8Array[] = []
    for (const token of tokens) {
      if (token === 'e') {
        this.#ephemeral ??= generateKeyPair()
        out.push(this.#ephemeral.public)
        this.#mixHash(this.#ephemeral.public)
        if (this.#hasPsk) this.#mixKey(this.#ephemeral.public)
      } else if (token === 's') out.push(this.#encryptAndHash(this.#own().public))
      else this.#mixToken(token)
    }
    out.push(this.#encryptAndHash(payload))
    this.#step++
    const message = Buffer.concat(out)
    if (message.length > MAX_MESSAGE) throw this.#fail(`message of ${message.length} bytes, at most ${MAX_MESSAGE}`)
    return message
  }

  /** Reads the next message, and returns its payload. Throws on anything else, and from then on always. */
  read(message: Uint8Array): Uint8Array {
    const tokens = this.#turn(false)
    try {
      let rest = message
      const take = (length: number) => {
        if (rest.length < length) throw new Error(`truncated: expected ${length} more bytes, got ${rest.length}`)
        const part = rest.subarray(0, length)
        rest = rest.subarray(length)
        return part
      }
      for (const token of tokens) {
        if (token === 'e') {
          this.#remoteEphemeral = take(KEY_LENGTH).slice()
          this.#mixHash(this.#remoteEphemeral)
          if (this.#hasPsk) this.#mixKey(this.#remoteEphemeral)
        } else if (token === 's') {
          this.#remoteStatic = this.#decryptAndHash(take(KEY_LENGTH + (this.#key ? TAG_LENGTH : 0))).slice()
        } else this.#mixToken(token)
      }
      const payload = this.#decryptAndHash(rest)
      this.#step++
      return payload
    } catch (cause) {
      throw this.#fail('message refused', cause)
    }
  }

  /** The keys of the session. Call it once, after the last message. */
  split(): Split {
    if (!this.done || this.#failed) throw new Error('noise: the handshake has not ended')
    const [first, second] = hkdf(this.#ck, EMPTY, 2)
    const hash = this.#h
    this.#failed = true
    this.#ck = EMPTY
    this.#ephemeral = undefined
    return this.#initiator ? { send: first, receive: second, hash } : { send: second, receive: first, hash }
  }

  #turn(writing: boolean): readonly Token[] {
    const tokens = this.#messages[this.#step]
    if (this.#failed || !tokens || writing !== (this.#initiator === (this.#step % 2 === 0))) {
      throw this.#fail(`not its turn to ${writing ? 'write' : 'read'} at message ${this.#step + 1}`)
    }
    return tokens
  }

  #fail(message: string, cause?: unknown): Error {
    this.#failed = true
    this.#ck = EMPTY
    this.#key = undefined
    return new Error(`noise: ${message}`, { cause })
  }

  #own(): KeyPair {
    if (!this.#static) throw new Error('noise: the pattern needs a static key')
    return this.#static
  }

  #remote(): Uint8Array {
    if (!this.#remoteStatic) throw new Error("noise: the pattern needs the other side's static key")
    return this.#remoteStatic
  }

  #ephemerals(): [KeyPair, Uint8Array] {
    if (!this.#ephemeral || !this.#remoteEphemeral) throw new Error('noise: no ephemeral keys yet')
    return [this.#ephemeral, this.#remoteEphemeral]
  }

  /** `es` is the initiator's ephemeral with the responder's static, `se` the other way round. */
  #mixToken(token: Exclude<Token, 'e' | 's'>): void {
    if (token === 'psk') return this.#mixKeyAndHash(this.#psk ?? EMPTY)
    if (token === 'ss') return this.#mixKey(dh(this.#own(), this.#remote()))
    if (token === 'ee') return this.#mixKey(dh(...this.#ephemerals()))
    if ((token === 'es') === this.#initiator) {
      if (!this.#ephemeral) throw new Error('noise: no ephemeral key yet')
      return this.#mixKey(dh(this.#ephemeral, this.#remote()))
    }
    if (!this.#remoteEphemeral) throw new Error('noise: no remote ephemeral key yet')
    return this.#mixKey(dh(this.#own(), this.#remoteEphemeral))
  }

  #mixHash(data: Uint8Array): void {
    this.#h = createHash('sha256').update(this.#h).update(data).digest()
  }

  #mixKey(input: Uint8Array): void {
    ;[this.#ck, this.#key] = hkdf(this.#ck, input, 2)
    this.#nonce = 0
  }

  #mixKeyAndHash(input: Uint8Array): void {
    const [ck, hash, key] = hkdf(this.#ck, input, 3)
    this.#ck = ck
    this.#mixHash(hash)
    this.#key = key
    this.#nonce = 0
  }

  #encryptAndHash(plain: Uint8Array): Uint8Array {
    const sealed = this.#key ? chacha20poly1305(this.#key, nonce(this.#nonce++), this.#h).encrypt(plain) : plain
    this.#mixHash(sealed)
    return sealed
  }

  #decryptAndHash(sealed: Uint8Array): Uint8Array {
    const plain = this.#key ? chacha20poly1305(this.#key, nonce(this.#nonce++), this.#h).decrypt(sealed) : sealed
    this.#mixHash(sealed)
    return plain
  }
}

/** 32 zero bits, then the counter as 64 bits little endian (Noise 12.3). */
export function nonce(counter: number): Buffer {
  const bytes = Buffer.alloc(12)
  bytes.writeUInt32LE(counter % 2 ** 32, 4)
  bytes.writeUInt32LE(Math.floor(counter / 2 ** 32), 8)
  return bytes
}

function sha256(data: Uint8Array): Buffer {
  return createHash('sha256').update(data).digest()
}

/** Noise 4.3. */
function hkdf(ck: Uint8Array, input: Uint8Array, outputs: 2): [Buffer, Buffer]
function hkdf(ck: Uint8Array, input: Uint8Array, outputs: 3): [Buffer, Buffer, Buffer]
function hkdf(ck: Uint8Array, input: Uint8Array, outputs: number): Buffer[] {
  const temp = createHmac('sha256', ck).update(input).digest()
  const out: Buffer[] = []
  let last = Buffer.alloc(0)
  for (let i = 1; i <= outputs; i++) {
    last = createHmac('sha256', temp).update(last).update(Buffer.of(i)).digest()
    out.push(last)
  }
  return out
}
