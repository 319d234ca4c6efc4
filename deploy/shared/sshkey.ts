/**
 * Reads and makes Ed25519 keys in OpenSSH's file format, on node:crypto alone: loading a library would delay each push
 * (BUNDLE 2.5).
 */
import { createPrivateKey, createPublicKey, type KeyObject, randomBytes } from 'node:crypto'
import { decodePublicKey, encodePublicKey, field, Reader, u32 } from './bundle/sshsig.ts'
import { Refusal } from './errors.ts'

export interface SshKey {
  publicKey: string
  /** null: encrypted, or in a FIDO token */
  privateKey: KeyObject | null
}

const MAGIC = Buffer.from('openssh-key-v1\0')
const BEGIN = '-----BEGIN OPENSSH PRIVATE KEY-----'
const END = '-----END OPENSSH PRIVATE KEY-----'
const PKCS8_ED25519 = Buffer.from('302e020100300506032b657004220420', 'hex')
const SPKI_BYTES = 12
const KEY_TYPE = 'ssh-ed25519'
const TOKEN_KEY_TYPE = 'sk-ssh-ed25519@openssh.com'

/** Throws `no-key`; the message contains no part of the key. */
export function parseSshKey(text: string): SshKey {
  try {
    return parse(text)
  } catch (cause) {
    if (cause instanceof Refusal && cause.code === 'no-key') throw cause
    throw new Refusal('no-key', 'malformed OpenSSH private key', undefined, { cause })
  }
}

function parse(text: string): SshKey {
  const body = text.trim()
  if (!body.startsWith(BEGIN) || !body.endsWith(END)) {
    throw new Refusal('no-key', 'expected an OpenSSH private key file', 'make one with: medulla keygen')
  }
  const read = new Reader(Buffer.from(body.slice(BEGIN.length, -END.length), 'base64'))
  if (!read.bytes(MAGIC.length).equals(MAGIC)) throw new Refusal('no-key', 'expected openssh-key-v1')
  const cipher = read.field().toString('latin1')
  read.field() // name of the key derivation
  read.field() // its options
  if (read.u32() !== 1) throw new Refusal('no-key', 'expected one key in the file')
  const outer = new Reader(read.field())
  const type = outer.field().toString('latin1')
  if (type === TOKEN_KEY_TYPE) {
    const [bytes, application] = [outer.field(), outer.field()]
    const line = `${type} ${Buffer.concat([field(type), field(bytes), field(application)]).toString('base64')}`
    decodePublicKey(line)
    return { publicKey: line, privateKey: null }
  }
  // one kind of key, so that signatures have one form (BUNDLE 2.1)
  if (type !== KEY_TYPE)
    throw new Refusal('no-key', `expected a key of type ${KEY_TYPE}, got ${JSON.stringify(type.slice(0, 48))}`)
  const key = outer.field()
  const publicKey = encodePublicKey(key)
  if (cipher !== 'none') return { publicKey, privateKey: null }
  const inner = new Reader(read.field())
  const checks = [inner.u32(), inner.u32()]
  if (checks[0] !== checks[1]) throw new Refusal('no-key', 'the check numbers of the key differ')
  inner.field() // type again
  inner.field() // public key again
  const secret = inner.field()
  if (secret.length !== 64) throw new Refusal('no-key', 'the private key has a wrong length')
  const privateKey = privateKeyOf(secret.subarray(0, 32))
  // a file whose public and private key differ must not sign (BUNDLE 2.5)
  if (!rawPublicKey(privateKey).equals(key)) throw new Refusal('no-key', 'public and private key do not match')
  return { publicKey, privateKey }
}

function privateKeyOf(seed: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([PKCS8_ED25519, seed]), format: 'der', type: 'pkcs8' })
}

function rawPublicKey(privateKey: KeyObject): Buffer {
  return createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(SPKI_BYTES)
}

/** The signing key of a seed; any 32 bytes are a seed (RFC 8032, 5.1.5). */
export function signingKeyOf(seed: Uint8Array): { publicKey: string; privateKey: KeyObject } {
  const privateKey = privateKeyOf(seed)
  return { publicKey: encodePublicKey(rawPublicKey(privateKey)), privateKey }
}

/** Makes a key: the line of its .pub file without comment, and the text of its private file. */
export function makeSshKey(comment: string): { publicKey: string; file: string } {
  // Any 32 bytes are a seed (RFC 8032, 5.1.5). Not generateKeyPairSync(), which can hang: see channel/x25519.ts.
  const seed = randomBytes(32)
  const key = rawPublicKey(privateKeyOf(seed))
  const check = randomBytes(4)
  const secret = [check, check, field(KEY_TYPE), field(key), field(Buffer.concat([seed, key])), field(comment)]
  let length = secret.reduce((sum, part) => sum + part.length, 0)
  for (let pad = 1; length % 8 !== 0; pad++, length++) secret.push(Buffer.from([pad]))
  const blob = Buffer.concat([
    MAGIC,
    field('none'),
    field('none'),
    field(''),
    u32(1),
    field(Buffer.concat([field(KEY_TYPE), field(key)])),
    field(Buffer.concat(secret)),
  ])
  const lines = blob.toString('base64').match(/.{1,70}/g) ?? []
  return { publicKey: encodePublicKey(key), file: `${BEGIN}\n${lines.join('\n')}\n${END}\n` }
}
