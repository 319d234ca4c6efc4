/**
 * Parts of a pairing that both ends need: its tokens, limits and messages, and the answer that the endpoint cannot read. Pure: bytes
 * in, bytes out. Invariant: a message with another shape than the expected one is refused
 * (test/deploy/shared/channel/pairing.test.ts).
 */
import { hkdfSync } from 'node:crypto'
import { chacha20poly1305 } from '@noble/ciphers/chacha.js'
import type { OperatorInfo } from '../api.ts'
import { REFUSAL_CODES, Refusal } from '../errors.ts'
import type { Frame, Opener, Sealer } from './frame.ts'
import { type Intake, MAX_CARD } from './handshake.ts'
import { nonce, TAG_LENGTH } from './noise.ts'
import { codeScalar } from './spake2.ts'
import { KEY_LENGTH } from './x25519.ts'

/** Where a robot takes no codes, only a person on the robot can open a window (CHANNEL 9.2). */
const ON_THE_ROBOT = 'for another code, on the robot: sudo medulla pair --allow'

export const PAIR_TOKEN = 'medulla-pair/1'

/** Chosen by what this end has, as the form of a session is (CHANNEL 9.1). */
export type PairForm = { token: string; pattern: 'XX' } | { token: string; pattern: 'XXpsk3'; psk: Uint8Array }

export function pairFormOf(psk: Uint8Array | undefined): PairForm {
  if (psk === undefined) return { token: PAIR_TOKEN, pattern: 'XX' }
  return { token: `${PAIR_TOKEN}-psk`, pattern: 'XXpsk3', psk }
}

/**
 * Time from accept to the last message (CHANNEL 9.5): longer than that of a session, because a robot that has let the laptop in must
 * not lose it before the answer.
 */
export const PAIR_MS = 20_000

/** Sizes of the handshake's messages (CHANNEL 9.5). */
export const PAIR_MESSAGE_1 = KEY_LENGTH + TAG_LENGTH
export const MAX_PAIR_MESSAGE_2 = KEY_LENGTH + KEY_LENGTH + TAG_LENGTH + MAX_CARD + TAG_LENGTH
export const MAX_PAIR_MESSAGE_3 = KEY_LENGTH + TAG_LENGTH + MAX_CARD + TAG_LENGTH
/** Bytes of one message after the handshake, as JSON (CHANNEL 9.6). */
export const MAX_PAIR_TEXT = 4096

/** Without the robot's id, which the laptop does not know yet: SPAKE2 binds both identities (CHANNEL 9.5). */
export function pairPrologue(token: string, challenge: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from(token), challenge])
}

/** A code as it is shown, `1234 5678`, or as people type it. Null: it is no code. */
export function readCode(text: string): string | null {
  const digits = text.replace(/[\s-]/g, '')
  return /^\d{8}$/.test(digits) ? digits : null
}

export const showCode = (code: string): string => `${code.slice(0, 4)} ${code.slice(4)}`

export const pairScalar = (code: string): bigint => codeScalar(code, `${PAIR_TOKEN} code`)

/** What the robot says of the operator that the laptop's user is now. */
export type PairAnswer = Pick<OperatorInfo, 'name' | 'role' | 'fingerprint'> & {
  /** the robot had no owner before: it has no recovery key yet */
  first: boolean
}

/** For the laptop alone: the key comes from SPAKE2, so that the endpoint, which carries the answer, cannot read it (CHANNEL 9.8). */
export function sealAnswer(key: Uint8Array, hash: Uint8Array, answer: PairAnswer): Buffer {
  return Buffer.from(cipher(key, hash).encrypt(Buffer.from(JSON.stringify(answer))))
}

/** Throws when it was sealed with another key, or in another handshake. Keys that this version does not know are left out. */
export function openAnswer(key: Uint8Array, hash: Uint8Array, sealed: Uint8Array): PairAnswer {
  const text = Buffer.from(cipher(key, hash).decrypt(sealed)).toString()
  const { name, role, fingerprint, first } = JSON.parse(text) as PairAnswer
  if (typeof name !== 'string' || typeof fingerprint !== 'string') throw new Error('pairing: not an answer')
  if (role !== 'owner' && role !== 'operator' && role !== 'observer') throw new Error('pairing: not a role')
  return { name, role, fingerprint, first: first === true }
}

function cipher(key: Uint8Array, hash: Uint8Array) {
  const derived = new Uint8Array(hkdfSync('sha256', key, '', `${PAIR_TOKEN} answer`, KEY_LENGTH))
  return chacha20poly1305(derived, nonce(0), hash) // one key for one answer
}

/** The messages after the handshake, each one data frame with one JSON object of texts (CHANNEL 9.6). */
export class PairTalk {
  readonly #intake: Intake
  readonly #sealer: Sealer
  readonly #opener: Opener

  constructor(intake: Intake, sealer: Sealer, opener: Opener) {
    this.#intake = intake
    this.#sealer = sealer
    this.#opener = opener
  }

  seal(message: object): Buffer {
    const text = Buffer.from(JSON.stringify(message))
    if (text.length > MAX_PAIR_TEXT) throw new Error(`pairing: message of ${text.length} bytes`)
    return Buffer.concat(this.#sealer.data([text]))
  }

  sealRefusal({ code, message, hint }: Refusal): Buffer {
    return this.seal({ error: { code, message: message.slice(0, 500), hint: (hint ?? '').slice(0, 500) } })
  }

  /** The texts under exactly these keys. Throws the Refusal that the peer sent, and Error for anything else. */
  async read<K extends string>(...keys: readonly K[]): Promise<Record<K, string>> {
    const frame = this.#opener.open(await this.#intake.message(TAG_LENGTH + 1 + MAX_PAIR_TEXT))
    const message = parse(frame)
    if ('error' in message) throw refusalIn(message.error)
    const isExpected =
      Object.keys(message).length === keys.length && keys.every((key) => typeof message[key] === 'string')
    if (!isExpected) throw new Error(`pairing: expected a message with ${keys.join(' and ')}`)
    return message as Record<K, string>
  }
}

function parse(frame: Frame): Record<string, unknown> {
  if (frame.kind !== 'data') throw new Error(`pairing: expected a message, got a frame of kind ${frame.kind}`)
  const value: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(frame.data))
  if (typeof value !== 'object' || value === null) throw new Error('pairing: not a message')
  return value as Record<string, unknown>
}

/**
 * The peer is not proven yet, so the words are the laptop's own: a person would type a command that a stranger suggests (CHANNEL 9.6).
 */
function refusalIn(error: unknown): Refusal {
  const { code, message } = (error ?? {}) as Record<string, unknown>
  const known = REFUSAL_CODES.find((each) => each === code) ?? 'internal'
  if (known === 'wrong-code') {
    const left = /\b([12]) tr(?:y is|ies are) left$/.exec(String(message))?.[0]
    if (left === undefined)
      return new Refusal(known, 'the code is wrong, and the robot takes no more codes now', ON_THE_ROBOT)
    const hint = 'check address and code, then: medulla pair'
    return new Refusal(known, `the code is wrong; ${left}`, hint)
  }
  if (known === 'not-pairing') return new Refusal(known, 'the robot takes no codes any more', ON_THE_ROBOT)
  if (known === 'in-progress') return new Refusal(known, 'too many laptops pair at once', 'try again: medulla pair')
  if (known === 'revoked-key')
    return new Refusal(known, 'the robot has revoked your key', 'pair with another one: medulla keygen --help')
  return new Refusal(
    known,
    `the robot refuses to pair: ${known}`,
    'the log of the robot says why: journalctl -u medulla',
  )
}

/** Bytes in base64, of exactly this length. */
export function readBytes(text: string, length: number): Buffer {
  const bytes = Buffer.from(text, 'base64')
  if (bytes.length !== length || bytes.toString('base64') !== text) throw new Error(`pairing: expected ${length} bytes`)
  return bytes
}

export const toText = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64')
