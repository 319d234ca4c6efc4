/**
 * SPAKE2 (RFC 9382) with P-256, SHA-256, HKDF and HMAC: both ends know a short code and agree on a key. Pure: bytes in, bytes out.
 * Invariant: bytes that are no point of the curve are refused before a secret is computed with them, and a wrong code gives the two
 * ends confirmations that differ (test/deploy/shared/channel/spake2.test.ts).
 */
import { createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto'
import { p256 } from '@noble/curves/nist.js'

const { Point } = p256
type CurvePoint = typeof Point.BASE

/** The constants of P-256 (RFC 9382, section 6): nobody knows their discrete logarithms. M hides the share of A, N that of B. */
const M = Point.fromHex('02886e2f97ace46e55ba9dd7242579f2993b64e16ef3dcab95afd497333d8fa12f')
const N = Point.fromHex('03d8bbd6c639c62937b04d997f38c3770719c629d7014d49a24b4f98baa1292b49')

/** An uncompressed point. */
export const SHARE_LENGTH = 65
export const CONFIRM_LENGTH = 32
const SCALAR_LENGTH = 32
/** The order of P-256 has 256 bits; 128 more make the bias of the remainder negligible (RFC 9382, section 3.2 asks for 64). */
const WIDE_LENGTH = 48

/** A is the laptop, B the robot (CHANNEL 9.6). */
export type Side = 'A' | 'B'

/** What one end keeps between its share and the share of its peer. */
export interface Share {
  readonly scalar: bigint
  /** What the peer gets. */
  readonly bytes: Uint8Array
}

export interface Agreement {
  readonly side: Side
  /** The code as a scalar. */
  readonly w: bigint
  readonly own: Share
  /** The share of the peer. */
  readonly theirs: Uint8Array
  readonly idA: Uint8Array
  readonly idB: Uint8Array
  /** Bound to the confirmations. */
  readonly aad: Uint8Array
}

export interface Agreed {
  /** Ke: 16 bytes, the same on both ends if they used the same code, identities and shares. */
  readonly key: Uint8Array
  readonly confirmA: Uint8Array
  readonly confirmB: Uint8Array
}

/** w of a code. Not stretched: CHANNEL 9.10 says why. */
export function codeScalar(code: string, info: string): bigint {
  return remainder(Buffer.from(hkdfSync('sha256', code, '', info, WIDE_LENGTH)))
}

/** `scalar`: only for public test vectors; otherwise each share has a new one. */
export function makeShare(side: Side, w: bigint, scalar = randomScalar()): Share {
  const point = Point.BASE.multiply(scalar).add(blind(side).multiply(w))
  return { scalar, bytes: point.toBytes(false) }
}

/** Throws when the share of the peer is no point of the curve, or hides none. */
export function agree({ side, w, own, theirs, idA, idB, aad }: Agreement): Agreed {
  if (theirs.length !== SHARE_LENGTH) throw new Error(`share: expected ${SHARE_LENGTH} bytes, got ${theirs.length}`)
  const point = Point.fromBytes(theirs)
  // P-256 has the cofactor 1. toBytes() throws for the point at infinity.
  const k = point.subtract(blind(side === 'A' ? 'B' : 'A').multiply(w)).multiply(own.scalar)
  const [shareA, shareB] = side === 'A' ? [own.bytes, theirs] : [theirs, own.bytes]
  const transcript = Buffer.concat([idA, idB, shareA, shareB, k.toBytes(false), scalarBytes(w)].flatMap(withLength))
  const hash = createHash('sha256').update(transcript).digest()
  const [key, ka] = [hash.subarray(0, 16), hash.subarray(16)]
  const info = Buffer.concat([Buffer.from('ConfirmationKeys'), aad])
  const keys = Buffer.from(hkdfSync('sha256', ka, '', info, 32))
  const confirm = (part: Buffer) => createHmac('sha256', part).update(transcript).digest()
  return { key, confirmA: confirm(keys.subarray(0, 16)), confirmB: confirm(keys.subarray(16)) }
}

const blind = (side: Side): CurvePoint => (side === 'A' ? M : N)

/** Each part of the transcript has its length before it, in eight bytes, little endian (RFC 9382, section 3.3). */
function withLength(part: Uint8Array): Uint8Array[] {
  const length = Buffer.alloc(8)
  length.writeUInt32LE(part.length)
  return [length, part]
}

/** From 1 to the order - 1: noble refuses 0, which has a chance of 2^-256. */
function randomScalar(): bigint {
  return remainder(randomBytes(WIDE_LENGTH))
}

function remainder(wide: Buffer): bigint {
  return BigInt(`0x${wide.toString('hex')}`) % Point.Fn.ORDER
}

function scalarBytes(scalar: bigint): Buffer {
  return Buffer.from(scalar.toString(16).padStart(2 * SCALAR_LENGTH, '0'), 'hex')
}
