/**
 * X25519 on raw 32-byte keys with node:crypto. Invariant: a shared secret of a low-order point is never returned
 * (test/deploy/shared/channel/noise.test.ts). Keys are imported as JWK (RFC 8037), ten times as fast as DER: a stranger can
 * make a robot do this.
 */
import { createPrivateKey, createPublicKey, diffieHellman, type KeyObject, randomBytes } from 'node:crypto'

export const KEY_LENGTH = 32
const OKP = { kty: 'OKP', crv: 'X25519' }

export interface KeyPair {
  readonly secret: KeyObject
  readonly public: Uint8Array
}

/** From a 32-byte secret scalar; throws on any other length. */
export function keyPair(secret: Uint8Array): KeyPair {
  if (secret.length !== KEY_LENGTH) throw new Error(`x25519 secret: expected 32 bytes, got ${secret.length}`)
  // node computes the public key from d, and ignores x
  const key = createPrivateKey({ key: { ...OKP, x: '', d: base64url(secret) }, format: 'jwk' })
  return { secret: key, public: Buffer.from(key.export({ format: 'jwk' }).x ?? '', 'base64url') }
}

/**
 * Any 32 bytes are a secret (RFC 7748, 5). Not generateKeyPairSync(): when the garbage collector runs while its key is
 * exported, Node 20 waits for a lock that it holds itself, for ever (test/deploy/shared/channel/x25519.test.ts).
 */
export function generateKeyPair(): KeyPair {
  return keyPair(randomBytes(KEY_LENGTH))
}

/** The shared secret. Throws when it would be all zero: OpenSSL refuses points of low order (CHANNEL 3.4). */
export function dh(own: KeyPair, theirs: Uint8Array): Uint8Array {
  if (theirs.length !== KEY_LENGTH) throw new Error(`x25519 public: expected 32 bytes, got ${theirs.length}`)
  const publicKey = createPublicKey({ key: { ...OKP, x: base64url(theirs) }, format: 'jwk' })
  return diffieHellman({ privateKey: own.secret, publicKey })
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url')
}
