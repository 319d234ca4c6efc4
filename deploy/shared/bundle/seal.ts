/**
 * Seals and opens bundles: age files with X25519 recipients only, so that the first line determines the algorithms (BUNDLE 8). The
 * writer is our own, on node:crypto, because loading age-encryption would add 70 ms to each push. The reader is age-encryption;
 * checkHeader() checks form and size of the header before it.
 */
import { createCipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import type { Decrypter } from 'age-encryption'
import { dh, generateKeyPair } from '../channel/x25519.ts'
import { Refusal } from '../errors.ts'
import { decodeBech32 } from './bech32.ts'
import { LIMITS } from './limits.ts'
import { quote } from './strict.ts'

const FIRST_LINE = 'age-encryption.org/v1'
const CHUNK = 64 * 1024
const STANZA = /^-> X25519 [A-Za-z0-9+/]{43}$/
const WRAPPED_KEY = /^[A-Za-z0-9+/]{43}$/
const MAC = /^--- [A-Za-z0-9+/]{43}$/
const NEWLINE = 10

/** The 32 bytes of an `age1…` recipient. */
export function parseRecipient(recipient: string): Uint8Array {
  const key = decodeBech32('age', recipient)
  if (!key) throw new Refusal('bad-bundle', `not an age recipient: ${quote(recipient)}`)
  return key
}

/** Seals with a new file key each time, wrapped once for each recipient; the content is encrypted once (BUNDLE 8.1). */
export async function seal(inner: Uint8Array, recipients: readonly string[]): Promise<Uint8Array> {
  if (recipients.length === 0 || recipients.length > LIMITS.ageStanzas) {
    throw new Refusal('bad-bundle', `sealing to ${recipients.length} recipients, expected 1 to ${LIMITS.ageStanzas}`)
  }
  const fileKey = randomBytes(16)
  const stanzas = recipients.map((recipient) => wrap(fileKey, parseRecipient(recipient)))
  const unsigned = `${FIRST_LINE}\n${stanzas.join('')}---`
  const mac = createHmac('sha256', hkdf(fileKey, '', 'header'))
    .update(unsigned)
    .digest()
  const nonce = randomBytes(16)
  const parts = [
    Buffer.from(`${unsigned} ${base64(mac)}\n`),
    nonce,
    ...encryptChunks(hkdf(fileKey, nonce, 'payload'), inner),
  ]
  const sealed = Buffer.concat(parts)
  if (sealed.length > LIMITS.bundle)
    throw new Refusal('too-large', `bundle: ${sealed.length} bytes, at most ${LIMITS.bundle}`)
  return sealed
}

/** The stanza of one recipient (C2SP age, X25519 recipient stanza). */
function wrap(fileKey: Uint8Array, recipient: Uint8Array): string {
  const ephemeral = generateKeyPair()
  const share = ephemeral.public
  const secret = dh(ephemeral, recipient)
  const key = hkdf(secret, Buffer.concat([share, recipient]), 'age-encryption.org/v1/X25519')
  return `-> X25519 ${base64(share)}\n${base64(encrypt(key, Buffer.alloc(12), fileKey))}\n`
}

/** The encrypted content (C2SP age, payload): STREAM, with a counter and a flag for the last chunk in the nonce. */
function* encryptChunks(key: Uint8Array, content: Uint8Array): Generator<Uint8Array> {
  const chunks = Math.max(1, Math.ceil(content.length / CHUNK))
  for (let i = 0; i < chunks; i++) {
    const nonce = Buffer.alloc(12)
    nonce.writeUInt32BE(i, 7)
    nonce[11] = i === chunks - 1 ? 1 : 0
    yield encrypt(key, nonce, content.subarray(i * CHUNK, (i + 1) * CHUNK))
  }
}

function encrypt(key: Uint8Array, nonce: Uint8Array, content: Uint8Array): Buffer {
  const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: 16 })
  return Buffer.concat([cipher.update(content), cipher.final(), cipher.getAuthTag()])
}

function hkdf(secret: Uint8Array, salt: Uint8Array | string, info: string): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', secret, salt, info, 32))
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64').replace(/=+$/, '')
}

/** Checks the first bytes of an upload: throws as soon as they cannot begin a valid header within the limits. */
export function checkHeader(prefix: Uint8Array): 'need-more' | 'ok' {
  let at = 0
  let [stanzas, expected] = [0, 'first' as 'first' | 'stanza' | 'wrapped']
  for (;;) {
    const end = prefix.indexOf(NEWLINE, at)
    // bounded before anything is computed from the header (BUNDLE 8.3)
    if (expected !== 'first' && (end < 0 ? prefix.length : end) > LIMITS.ageHeader) {
      throw new Refusal('too-large', `bundle: age header of more than ${LIMITS.ageHeader} bytes`)
    }
    // Valid lines have at most 54 bytes. A first line is read up to 64, so that the refusal can quote another format.
    if (end < 0 && prefix.length - at <= 64) return expected === 'first' ? checkFirst(prefix) : 'need-more'
    const line = Buffer.from(prefix.subarray(at, end < 0 ? at + 65 : Math.min(end, at + 65))).toString('latin1')
    if (expected === 'first') {
      if (line !== FIRST_LINE) unknownFormat(line)
      expected = 'stanza'
    } else if (expected === 'wrapped') {
      if (!WRAPPED_KEY.test(line)) malformed(line)
      expected = 'stanza'
    } else if (MAC.test(line) && stanzas > 0) {
      return 'ok'
    } else {
      if (!STANZA.test(line)) malformed(line)
      if (++stanzas > LIMITS.ageStanzas)
        throw new Refusal('too-large', `bundle: more than ${LIMITS.ageStanzas} recipients`)
      expected = 'wrapped'
    }
    at = end + 1
  }
}

function checkFirst(prefix: Uint8Array): 'need-more' {
  const text = Buffer.from(prefix).toString('latin1')
  if (!`${FIRST_LINE}\n`.startsWith(text)) unknownFormat(text)
  return 'need-more'
}

function unknownFormat(line: string): never {
  throw new Refusal('unknown-format', `bundle: unknown format ${quote(line)}, known: ${FIRST_LINE}`)
}

/**
 * Refuses a line of the header; another recipient type is an unknown format, since a sender cannot choose algorithms
 * (BUNDLE 8.2).
 */
function malformed(line: string): never {
  const type = /^-> (\S{1,40})/.exec(line)?.[1]
  if (type !== undefined && type !== 'X25519') {
    throw new Refusal('unknown-format', `bundle: unknown recipient type ${quote(type)}, known: X25519`)
  }
  throw new Refusal('bad-bundle', 'bundle: malformed age header')
}

/** The content, if one of `identities` (`AGE-SECRET-KEY-1…`) is a recipient. Takes long and blocks: call it in a worker. */
export async function openSealed(bytes: Uint8Array, identities: string | readonly string[]): Promise<Uint8Array> {
  if (bytes.length > LIMITS.bundle)
    throw new Refusal('too-large', `bundle: ${bytes.length} bytes, at most ${LIMITS.bundle}`)
  if (checkHeader(bytes) === 'need-more') throw new Refusal('truncated', 'bundle: ends within its age header')
  const decrypter = await newDecrypter([identities].flat())
  try {
    return await decrypter.decrypt(bytes)
  } catch (cause) {
    // not a recipient, rather than a damaged file (BUNDLE 8.4)
    if (cause instanceof Error && cause.message.includes('no identity matched')) {
      const hint = 'push it to a robot that it was built for, or build it again for this robot'
      throw new Refusal('wrong-robot', "bundle: this robot's key is not among its recipients", hint, { cause })
    }
    throw new Refusal('bad-bundle', 'bundle: the age file is damaged or truncated', undefined, { cause })
  }
}

async function newDecrypter(identities: readonly string[]): Promise<Decrypter> {
  const age = await import('age-encryption')
  const decrypter = new age.Decrypter()
  try {
    for (const identity of identities) decrypter.addIdentity(identity.trim())
    return decrypter
  } catch {
    // without the cause, whose message contains the secret
    throw new Refusal('no-key', 'malformed age identity, expected AGE-SECRET-KEY-1…')
  }
}
