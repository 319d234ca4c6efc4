/**
 * What both sides of the opening share: limits of its messages, the prologue, and reading one message off a transport.
 * Invariant: never more than one message and one chunk of a transport are held.
 */
import type { Duplex } from 'node:stream'
import type { SignedCertificate } from '../cert.ts'
import { Deframer } from './frame.ts'
import { TAG_LENGTH } from './noise.ts'
import { KEY_LENGTH } from './x25519.ts'

export const TOKEN = 'medulla/1'
/** CHANNEL 2.2 */
export const MAX_HTTP_HEAD = 4096
/** CHANNEL 3.2: bytes of the certificate's JSON text */
export const MAX_CARD = 8192
export const MAX_MESSAGE_1 = KEY_LENGTH + KEY_LENGTH + TAG_LENGTH + MAX_CARD + TAG_LENGTH
export const MESSAGE_2 = KEY_LENGTH + TAG_LENGTH
/** CHANNEL 5.1 */
export const HANDSHAKE_MS = 5000

/** CHANNEL 2.3: the header of the answer 101, and how many random bytes are in it, as base64. */
export const CHALLENGE_HEADER = 'Medulla-Challenge'
export const CHALLENGE_LENGTH = 16
const CHALLENGE = new RegExp(`^${CHALLENGE_HEADER}: ([A-Za-z0-9+/]{22}==)\\r$`, 'im')

/** Of an answer 101. Throws when there is none. */
export function challengeOf(head: string): Buffer {
  const [, text] = CHALLENGE.exec(head) ?? []
  if (text === undefined) throw new Error(`the answer has no ${CHALLENGE_HEADER}`)
  return Buffer.from(text, 'base64')
}

/** CHANNEL 3.1: both sides must mean the same protocol, the same robot and the same connection. */
export function prologue(robot: string, challenge: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(TOKEN + robot), challenge])
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

/** The certificate is judged elsewhere; here only its wrapping is read (CHANNEL 3.2). Throws on anything else. */
export function decodeCard(payload: Uint8Array): SignedCertificate {
  if (payload.length > MAX_CARD) throw new Error(`card: at most ${MAX_CARD} bytes, got ${payload.length}`)
  const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload))
  if (typeof value !== 'object' || value === null || Object.keys(value).length !== 2)
    throw new Error('card: not a card')
  const { cert, sig } = value as Record<string, unknown>
  if (typeof cert !== 'string' || typeof sig !== 'string') throw new Error('card: not a card')
  return { cert, sig }
}

/** Reads a transport chunk by chunk before a stream takes it over; between two calls the transport is paused. */
export class Intake {
  readonly #raw: Duplex
  readonly #onError = () => {}
  #rest: Buffer

  constructor(raw: Duplex, head: Buffer) {
    this.#raw = raw
    this.#rest = head
    raw.pause()
    raw.on('error', this.#onError) // a lost transport is reported by its close
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

  /** An HTTP head, up to and with its empty line. */
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

  /** Hands the transport on, with the bytes that were read but not used. */
  release(): Buffer {
    this.#raw.off('error', this.#onError)
    return this.#rest
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
          this.#rest = taken.rest
          settle()
          resolve(taken.value)
        } catch (error) {
          settle()
          reject(error)
        }
      }
      if (raw.destroyed) return reject(new Error('the connection was closed'))
      raw.on('data', onData).on('end', onLost).on('close', onLost)
      const rest = this.#rest
      this.#rest = Buffer.alloc(0)
      if (rest.length > 0) onData(rest)
      if (!settled) raw.resume()
    })
  }
}
