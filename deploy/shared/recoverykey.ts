/**
 * The recovery key of a robot: a secret of 128 random bits, which a person writes on paper as groups of letters and digits.
 * Invariant: the robot gets only the public half of the key (HANDOVER 19.3; test/deploy/laptop/cli/keylife.test.ts).
 */
import { createHash, hkdfSync, randomBytes } from 'node:crypto'
import { issueCertificate, type SignedCertificate } from './cert.ts'
import { Refusal } from './errors.ts'
import { noisePublic, type Signer, seedSigner } from './keys.ts'

/** Crockford's base 32: no I, L, O and U, which are misread or spell words. */
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
const FORMAT = 'medulla-recovery/1'
const SECRET_BYTES = 16
/** Bits of the check sum: 128 and 12 bits are 28 characters of 5 bits. */
const CHECK_BITS = 12
const CHARACTERS = 28
const GROUP = /.{4}/g

/** The name of the recovery key in its own certificate and in receipts. */
export const RECOVERY_NAME = 'recovery-key'

/** The keys that the secret gives: the person who has the text can open a session and sign one order. */
export interface RecoveryKey {
  signer: Signer
  noiseSecret: Uint8Array
  card: SignedCertificate
}

/** Makes a secret. `text` is shown once and never stored; `publicKey` is what the robot keeps. */
export function makeRecoveryKey(): { text: string; publicKey: string } {
  const secret = randomBytes(SECRET_BYTES)
  return { text: encode(secret), publicKey: signerOf(secret).publicKey }
}

/** Throws Refusal `usage` for a text with a mistake; the message contains no part of the text. */
export async function openRecoveryKey(text: string): Promise<RecoveryKey> {
  const secret = decode(text)
  const signer = signerOf(secret)
  const noiseSecret = derive(secret, 'noise')
  const noise = Buffer.from(noisePublic(noiseSecret)).toString('base64')
  const cert = { format: 'medulla-cert/1', subject: 'operator', name: RECOVERY_NAME, noise } as const
  const card = await issueCertificate({ ...cert, key: signer.publicKey, created: new Date().toISOString() }, signer)
  return { signer, noiseSecret, card }
}

const derive = (secret: Uint8Array, purpose: string): Uint8Array =>
  new Uint8Array(hkdfSync('sha256', secret, '', `${FORMAT} ${purpose}`, 32))

const signerOf = (secret: Uint8Array): Signer => seedSigner(derive(secret, 'sign'))

/** The first bits of a hash: a mistyped text is refused before a robot is asked. */
function checkOf(secret: Uint8Array): bigint {
  const hash = createHash('sha256').update(`${FORMAT} check`).update(secret).digest()
  return BigInt(hash.readUInt16BE() >> (16 - CHECK_BITS))
}

function encode(secret: Buffer): string {
  let value = (BigInt(`0x${secret.toString('hex')}`) << BigInt(CHECK_BITS)) | checkOf(secret)
  let text = ''
  for (let at = 0; at < CHARACTERS; at++, value >>= 5n) text = `${ALPHABET[Number(value & 31n)]}${text}`
  return (text.match(GROUP) ?? []).join('-')
}

function decode(text: string): Buffer {
  const hint = 'type the groups as they are on the paper; O counts as 0, I and L as 1'
  const plain = text.toUpperCase().replace(/[\s-]/g, '').replaceAll('O', '0').replace(/[IL]/g, '1')
  if (plain.length !== CHARACTERS) {
    const message = `a recovery key has 7 groups of 4 letters and digits, got ${plain.length} characters`
    throw new Refusal('usage', message, hint)
  }
  let value = 0n
  for (const character of plain) {
    const digit = ALPHABET.indexOf(character)
    if (digit < 0) throw new Refusal('usage', 'the recovery key contains a character that no recovery key has', hint)
    value = (value << 5n) | BigInt(digit)
  }
  const hex = (value >> BigInt(CHECK_BITS)).toString(16).padStart(2 * SECRET_BYTES, '0')
  const secret = Buffer.from(hex, 'hex')
  if (checkOf(secret) === (value & ((1n << BigInt(CHECK_BITS)) - 1n))) return secret
  throw new Refusal('usage', 'the recovery key has a wrong character: its check sum does not match', hint)
}
