/**
 * Makes and verifies SSHSIG signatures, as `ssh-keygen -Y` does, but with ed25519, one hash and one encoding only (BUNDLE 2). The
 * key may be in a FIDO token: such a key has another type, and the token signs more than the message.
 */
import { createHash, createPublicKey, type KeyObject, sign, verify as verifyEd25519 } from 'node:crypto'
import { Refusal } from '../errors.ts'
import { LIMITS } from './limits.ts'

/** One namespace for each kind of statement: a signature of one kind is never valid for another (BUNDLE 2.3). */
export const NAMESPACES = [
  'release@medulla',
  'order@medulla',
  'receipt@medulla',
  'cert@medulla',
  'config@medulla',
  'head@medulla',
  'build@medulla',
] as const
/** A key in software: of robots, delegations and recoveries. */
export const PUBLIC_KEY_PATTERN = /^ssh-ed25519 [A-Za-z0-9+/]{68}$/
/** A key of a person: in software, or in a FIDO token (BUNDLE 2.7). */
export const PERSON_KEY_PATTERN =
  /^(?:ssh-ed25519 [A-Za-z0-9+/]{68}|sk-ssh-ed25519@openssh\.com [A-Za-z0-9+/]{96,192}={0,2})$/

const MAGIC = Buffer.from('SSHSIG')
const BEGIN = '-----BEGIN SSH SIGNATURE-----\n'
const END = '-----END SSH SIGNATURE-----\n'
const KEY_TYPE = 'ssh-ed25519'
const TOKEN_KEY_TYPE = 'sk-ssh-ed25519@openssh.com'
/** The application for which a token made a key; ssh-keygen makes keys for `ssh:` and what its user adds. */
const APPLICATION = /^ssh:[\x21-\x7e]{0,60}$/
/** Of the flags that a token signs: somebody has touched it (PROTOCOL.u2f). */
const USER_PRESENT = 0x01
const SPKI = Buffer.from('302a300506032b6570032100', 'hex')

interface Key {
  /** 32 bytes */
  bytes: Buffer
  /** null: the key is in software */
  application: string | null
}

export interface VerifiedSignature {
  publicKey: string
  fingerprint: string
}

/** The armored signature, as `ssh-keygen -Y sign` writes it. */
export function signBlob(privateKey: KeyObject, publicKey: string, namespace: string, message: Uint8Array): string {
  const { bytes, application } = decodePublicKey(publicKey)
  if (application !== null) throw new Refusal('no-key', 'only its token can sign with this key')
  const signature = sign(null, signedData(namespace, message), privateKey)
  return armor(
    Buffer.concat([
      MAGIC,
      u32(1),
      field(encodeKey(bytes)),
      field(namespace),
      field(''),
      field('sha512'),
      field(Buffer.concat([field(KEY_TYPE), field(signature)])),
    ]),
  )
}

/**
 * Verifies a signature, and returns its key; throws `bad-signature`. The caller decides whether this key may sign the
 * message.
 */
export function verify(armored: string, namespace: string, message: Uint8Array): VerifiedSignature {
  return verifyBlob(unarmor(armored), namespace, message)
}

/** As {@link verify}, for the base64 blob without armor. */
export function verifyBase64(base64: string, namespace: string, message: Uint8Array): VerifiedSignature {
  return verifyBlob(fromBase64(base64), namespace, message)
}

function verifyBlob(blob: Uint8Array, namespace: string, message: Uint8Array): VerifiedSignature {
  // every field is fixed but key, namespace and signature, and nothing may follow: one encoding for one signature (BUNDLE 2.2)
  const read = new Reader(blob)
  if (!read.bytes(6).equals(MAGIC)) bad('expected the magic SSHSIG')
  const version = read.u32()
  if (version !== 1) bad(`expected version 1, got ${version}`)
  const key = readKey(read.field())
  const got = read.field().toString('latin1')
  if (got !== namespace) bad(`expected namespace ${namespace}, got ${JSON.stringify(got.slice(0, 64))}`)
  if (read.field().length !== 0) bad('the reserved field is not empty')
  const hash = read.field().toString('latin1')
  if (hash !== 'sha512') bad(`expected hash sha512, got ${JSON.stringify(hash.slice(0, 16))}`)
  const inner = new Reader(read.field())
  read.end()
  const type = key.application === null ? KEY_TYPE : TOKEN_KEY_TYPE
  if (inner.field().toString('latin1') !== type) bad(`expected a signature of type ${type}`)
  const signature = inner.field()
  const data = signedData(namespace, message)
  const signed = key.application === null ? data : tokenData(key.application, inner.bytes(5), data)
  inner.end()
  if (signature.length !== 64) bad(`expected 64 bytes of signature, got ${signature.length}`)
  const keyObject = createPublicKey({ key: Buffer.concat([SPKI, key.bytes]), format: 'der', type: 'spki' })
  if (!verifyEd25519(null, signed, keyObject, signature)) bad('does not match')
  const publicKey = lineOf(key)
  return { publicKey, fingerprint: fingerprint(publicKey) }
}

/**
 * What a token signs: the application of its key, its flags and its counter, and the data (PROTOCOL.u2f, "SSH U2F signatures").
 * Throws `bad-signature` when nobody has touched the token. The counter is not compared with earlier ones: tokens share it
 * between keys, and an old signature is refused by what it signs.
 */
function tokenData(application: string, flagsAndCounter: Buffer, data: Uint8Array): Buffer {
  // A signature without a touch could be made by whoever controls the laptop (BUNDLE 2.7).
  if (((flagsAndCounter[0] ?? 0) & USER_PRESENT) === 0) bad('the security key was not touched')
  const sha256 = (bytes: string | Uint8Array) => createHash('sha256').update(bytes).digest()
  return Buffer.concat([sha256(application), flagsAndCounter, sha256(data)])
}

/** The signed bytes: a hash of the message, bound to the namespace (PROTOCOL.sshsig, section 3). */
function signedData(namespace: string, message: Uint8Array): Buffer {
  const hash = createHash('sha512').update(message).digest()
  return Buffer.concat([MAGIC, field(namespace), field(''), field('sha512'), field(hash)])
}

export function armor(blob: Uint8Array): string {
  const lines =
    Buffer.from(blob)
      .toString('base64')
      .match(/.{1,70}/g) ?? []
  return `${BEGIN}${lines.join('\n')}\n${END}`
}

/** Removes the armor, and refuses any but the canonical armor of the blob, so that no bit can be changed (BUNDLE 2.2). */
export function unarmor(armored: string): Uint8Array {
  if (armored.length > LIMITS.signature)
    throw new Refusal('too-large', `signature: more than ${LIMITS.signature} bytes`)
  if (!armored.startsWith(BEGIN) || !armored.endsWith(END)) bad('expected an armored SSH signature')
  const blob = Buffer.from(armored.slice(BEGIN.length, -END.length), 'base64')
  if (armor(blob) !== armored) bad('armor is not in canonical form')
  return blob
}

export function toBase64(armored: string): string {
  return Buffer.from(unarmor(armored)).toString('base64')
}

/** The blob of a base64 text, which must be in canonical form. */
function fromBase64(base64: string): Uint8Array {
  if (base64.length > LIMITS.signature) throw new Refusal('too-large', `signature: more than ${LIMITS.signature} bytes`)
  const blob = Buffer.from(base64, 'base64')
  if (blob.length === 0 || blob.toString('base64') !== base64) bad('not in canonical base64')
  return blob
}

/** The line `ssh-ed25519 AAAA…` for the 32 bytes of a public key. */
export function encodePublicKey(key: Uint8Array): string {
  return `${KEY_TYPE} ${encodeKey(key).toString('base64')}`
}

function lineOf({ bytes, application }: Key): string {
  if (application === null) return encodePublicKey(bytes)
  const blob = Buffer.concat([field(TOKEN_KEY_TYPE), field(bytes), field(application)])
  return `${TOKEN_KEY_TYPE} ${blob.toString('base64')}`
}

/** Whether this is the line of a key in a FIDO token. */
export function isTokenKey(line: string): boolean {
  return line.startsWith(`${TOKEN_KEY_TYPE} `)
}

/** The key in a public key line without comment (BUNDLE 2.1, 2.7). */
export function decodePublicKey(line: string): Key {
  if (!PERSON_KEY_PATTERN.test(line)) {
    throw new Refusal('no-key', `expected a public key "ssh-ed25519 AAAA…" or "${TOKEN_KEY_TYPE} AAAA…"`, hintFor(line))
  }
  const [type, base64 = ''] = line.split(' ')
  const key = readKey(Buffer.from(base64, 'base64'))
  if (lineOf(key) !== line) throw new Refusal('no-key', `public key is not in canonical base64, or no ${type}`)
  return key
}

/** ECDSA signatures have two forms each, and RSA keys have many sizes: neither is taken (BUNDLE 2.1). */
function hintFor(line: string): string {
  return line.startsWith('sk-')
    ? 'make a key of the other type in your token: ssh-keygen -t ed25519-sk'
    : 'medulla keygen makes one'
}

/** `SHA256:…`, as `ssh-keygen -lf` prints it. */
export function fingerprint(publicKey: string): string {
  const blob = Buffer.from(publicKey.split(' ')[1] ?? '', 'base64')
  return `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`
}

function encodeKey(key: Uint8Array): Buffer {
  return Buffer.concat([field(KEY_TYPE), field(key)])
}

function readKey(blob: Uint8Array): Key {
  const read = new Reader(blob)
  const type = read.field().toString('latin1')
  if (type !== KEY_TYPE && type !== TOKEN_KEY_TYPE)
    bad(`expected a key of type ${KEY_TYPE}, got ${JSON.stringify(type.slice(0, 48))}`)
  const bytes = read.field()
  const application = type === KEY_TYPE ? null : read.field().toString('latin1')
  read.end()
  if (bytes.length !== 32) bad(`expected 32 bytes of key, got ${bytes.length}`)
  if (application !== null && !APPLICATION.test(application))
    bad(`expected an application "ssh:…", got ${JSON.stringify(application.slice(0, 64))}`)
  return { bytes, application }
}

function bad(message: string): never {
  throw new Refusal('bad-signature', `signature: ${message}`)
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

/** A string: its length, then its bytes (RFC 4251, section 5). */
export function field(content: string | Uint8Array): Buffer {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content
  return Buffer.concat([u32(bytes.length), bytes])
}

/** Reads RFC 4251 fields. Throws `bad-signature` at the end of the bytes. */
export class Reader {
  readonly #bytes: Buffer
  #at = 0
  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  }

  bytes(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) bad('truncated')
    const part = this.#bytes.subarray(this.#at, this.#at + length)
    this.#at += length
    return part
  }

  u32(): number {
    return this.bytes(4).readUInt32BE()
  }

  field(): Buffer {
    return this.bytes(this.u32())
  }

  end(): void {
    if (this.#at !== this.#bytes.length) bad(`${this.#bytes.length - this.#at} trailing bytes`)
  }
}
