/**
 * Parts of the handshake that both sides need: limits of its messages, the prologue, and reading one message from a transport.
 * Memory is bounded: at most one message and one chunk of a transport are held.
 */
import type { Duplex } from 'node:stream'
import type { SignedCertificate } from '../cert.ts'
import { Deframer } from './frame.ts'
import { TAG_LENGTH } from './noise.ts'
import { KEY_LENGTH } from './x25519.ts'

export const TOKEN = 'medulla/2'

/** The upgrade token and the Noise pattern. They are chosen by what this end has, never by what the peer asks for. */
export type Form = { token: string; pattern: 'IK' } | { token: string; pattern: 'IKpsk2'; psk: Uint8Array }

/** With a pre-shared key only its own form is spoken, without one only the other (CHANNEL 3.10). */
export function formOf(psk: Uint8Array | undefined): Form {
  if (psk === undefined) return { token: TOKEN, pattern: 'IK' }
  return { token: `${TOKEN}-psk`, pattern: 'IKpsk2', psk }
}
/** Bytes of an HTTP head from a stranger (CHANNEL 2.2). */
export const MAX_HTTP_HEAD = 4096
/** Bytes of the card's JSON text (CHANNEL 3.2). */
export const MAX_CARD = 8192
export const MAX_MESSAGE_1 = KEY_LENGTH + KEY_LENGTH + TAG_LENGTH + MAX_CARD + TAG_LENGTH
export const MESSAGE_2 = KEY_LENGTH + TAG_LENGTH
/** Time from accept to established session (CHANNEL 5.1). */
export const HANDSHAKE_MS = 5000

/** The header of the answer 101 with the challenge, and the number of its random bytes, in base64 (CHANNEL 2.3). */
export const CHALLENGE_HEADER = 'Medulla-Challenge'
export const CHALLENGE_LENGTH = 16
const CHALLENGE = new RegExp(`^${CHALLENGE_HEADER}: ([A-Za-z0-9+/]{22}==)\\r$`, 'im')

/** The challenge in the head of an answer 101. Throws when there is none. */
export function challengeOf(head: string): Buffer {
  const [, text] = CHALLENGE.exec(head) ?? []
  if (text === undefined) throw new Error(`the answer has no ${CHALLENGE_HEADER}`)
  return Buffer.from(text, 'base64')
}

/** Binds the handshake to the protocol, the robot and this connection: with another one, messages do not open (CHANNEL 3.1). */
export function prologue(robot: string, challenge: Uint8Array, token: string = TOKEN): Buffer {
  return Buffer.concat([Buffer.from(token + robot), challenge])
}

export function encodeMessage(message: Uint8Array): Buffer {
  const out = Buffer.alloc(2 + message.length)
  out.writeUInt16BE(message.length)
  out.set(message, 2)
  return out
}

export function encodeCard(card: SignedCertificate): Buffer {
  return Buffer.from(JSON.stringify({ cert: card.cert, sig: card.sig }))
}

/** Reads only the JSON around certificate and signature, and verifies neither (CHANNEL 3.2). Throws on anything else. */
export function decodeCard(payload: Uint8Array): SignedCertificate {
  if (payload.length > MAX_CARD) throw new Error(`card: at most ${MAX_CARD} bytes, got ${payload.length}`)
  const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload))
  if (typeof value !== 'object' || value === null || Object.keys(value).length !== 2)
    throw new Error('card: not a card')
  const { cert, sig } = value as Record<string, unknown>
  if (typeof cert !== 'string' || typeof sig !== 'string') throw new Error('card: not a card')
  return { cert, sig }
}

/** Reads messages from a transport before a stream takes it over; between two calls the transport is paused. */
export class Intake {
  readonly #raw: Duplex
  readonly #onError = () => {}
  #unread: Buffer

  constructor(raw: Duplex, head: Buffer) {
    this.#raw = raw
    this.#unread = head
    raw.pause()
    raw.on('error', this.#onError) // its 'close' event reports a lost transport
  }

  /** The next message of at most `max` bytes. Rejects when the transport is lost, or `max` is exceeded. */
  message(max: number): Promise<Buffer> {
    const deframer = new Deframer(max)
    let found: Buffer | undefined
    return this.#until((chunk) => {
      const rest = deframer.push(chunk, (frame) => {
        found = frame
        return false
      })
      return found ? { value: found, rest } : undefined
    })
  }

  /** The next HTTP head, including its empty line. */
  head(): Promise<string> {
    let held = Buffer.alloc(0)
    return this.#until((chunk) => {
      held = Buffer.concat([held, chunk])
      const end = held.indexOf('\r\n\r\n')
      if (end < 0 && held.length <= MAX_HTTP_HEAD) return undefined
      if (end < 0 || end > MAX_HTTP_HEAD) throw new Error(`http head: more than ${MAX_HTTP_HEAD} bytes`)
      return { value: held.toString('latin1', 0, end + 4), rest: held.subarray(end + 4) }
    })
  }

  /** Stops using the transport, and returns the bytes that were read but not used. */
  release(): Buffer {
    this.#raw.off('error', this.#onError)
    return this.#unread
  }

  #until<T>(take: (chunk: Buffer) => { value: T; rest: Buffer } | undefined): Promise<T> {
    const raw = this.#raw
    return new Promise<T>((resolve, reject) => {
      let settled = false
      const settle = () => {
        settled = true
        raw.pause()
        raw.off('data', onData).off('end', onLost).off('close', onLost)
      }
      const onLost = () => {
        settle()
        reject(new Error('the connection was closed'))
      }
      const onData = (chunk: Buffer) => {
        try {
          const taken = take(chunk)
          if (!taken) return
          this.#unread = taken.rest
          settle()
          resolve(taken.value)
        } catch (error) {
          settle()
          reject(error)
        }
      }
      if (raw.destroyed) return reject(new Error('the connection was closed'))
      raw.on('data', onData).on('end', onLost).on('close', onLost)
      const rest = this.#unread
      this.#unread = Buffer.alloc(0)
      if (rest.length > 0) onData(rest)
      if (!settled) raw.resume()
    })
  }
}
