/** Certificates (cards): each lists the keys of one identity, and is signed by the identity's own key (BUNDLE 3). */

import { LIMITS } from './bundle/limits.ts'
import { parseRecipient } from './bundle/seal.ts'
import {
  decodePublicKey,
  fingerprint,
  PERSON_KEY_PATTERN,
  PUBLIC_KEY_PATTERN,
  toBase64,
  verifyBase64,
} from './bundle/sshsig.ts'
import { encodeJson, readJson } from './bundle/strict.ts'
import { Refusal } from './errors.ts'
import type { Signer } from './keys.ts'
import { NAME_PATTERN } from './names.ts'

export interface Certificate {
  format: 'medulla-cert/1'
  subject: 'robot' | 'operator'
  name: string
  /** `ssh-ed25519 …`, of operators also `sk-ssh-ed25519@openssh.com …`; its fingerprint is the id */
  key: string
  /** base64 X25519 public key of the channel */
  noise: string
  /** `age1…`, robots only */
  age?: string
  created: string
}

export interface SignedCertificate {
  /** exact JSON text */
  cert: string
  /** base64 SSHSIG blob, namespace cert@medulla */
  sig: string
}

const FORMAT = 'medulla-cert/1'
const NOISE = /^[A-Za-z0-9+/]{43}=$/
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

export async function issueCertificate(cert: Certificate, signer: Signer): Promise<SignedCertificate> {
  const { format, subject, name, key, noise, age, created } = cert
  const bytes = encodeJson({ format, subject, name, key, noise, ...(age === undefined ? {} : { age }), created })
  parseCertificate(bytes)
  if (key !== signer.publicKey) throw new Refusal('bad-signature', 'certificate: its key is not the one that signs it')
  return { cert: Buffer.from(bytes).toString(), sig: toBase64(await signer.sign('cert@medulla', bytes)) }
}

/** Verifies that the keys belong together; throws a Refusal otherwise. Whether to trust the identity is up to the caller. */
export function verifyCertificate(signed: SignedCertificate): Certificate & { id: string } {
  if (typeof signed?.cert !== 'string' || typeof signed.sig !== 'string') {
    throw new Refusal('bad-signature', 'certificate: expected {cert, sig}')
  }
  // the size comes before any costly step: a stranger sends this (BUNDLE 3.3)
  if (signed.cert.length > LIMITS.certificate) {
    throw new Refusal('too-large', `certificate: more than ${LIMITS.certificate} bytes`)
  }
  const bytes = Buffer.from(signed.cert)
  // the signature before the text is interpreted; below, the text must name the key that signed it (BUNDLE 3.2)
  const { publicKey } = verifyBase64(signed.sig, 'cert@medulla', bytes)
  const cert = parseCertificate(bytes)
  if (cert.key !== publicKey)
    throw new Refusal('bad-signature', 'certificate: signed by another key than the one it names')
  return { ...cert, id: fingerprint(cert.key) }
}

function parseCertificate(bytes: Uint8Array): Certificate {
  const read = readJson(bytes, 'certificate', FORMAT, LIMITS.certificate)
  const subject = read.oneOf('subject', ['robot', 'operator'])
  // a robot has an age key, an operator has none (BUNDLE 3.1)
  read.keys(['format', 'subject', 'name', 'key', 'noise', 'created', ...(subject === 'robot' ? ['age'] : [])])
  // a robot signs by itself: nobody could touch its token
  const key = read.text('key', subject === 'robot' ? PUBLIC_KEY_PATTERN : PERSON_KEY_PATTERN, 230)
  decodePublicKey(key)
  const noise = read.text('noise', NOISE, 44)
  const raw = Buffer.from(noise, 'base64')
  if (raw.length !== 32 || raw.toString('base64') !== noise) read.fail("'noise' must be 32 bytes in base64")
  const cert: Certificate = {
    format: FORMAT,
    subject,
    name: read.text('name', NAME_PATTERN, 64),
    key,
    noise,
    created: read.text('created', TIME, 24),
  }
  if (subject === 'robot') {
    cert.age = read.text('age', /^age1/, 62)
    parseRecipient(cert.age)
  }
  return cert
}
