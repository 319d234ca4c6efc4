/** From the sealed content to a release that an operator signed and the payload that it names; nothing is unpacked here (BUNDLE 9). */
import { Refusal } from '../errors.ts'
import { parseInner } from './inner.ts'
import { checkPayload } from './payload.ts'
import { parseRelease, type Release, releaseDigest } from './release.ts'
import { verify } from './sshsig.ts'

export interface Opened {
  release: Release
  releaseBytes: Uint8Array
  /** armored, as it came */
  signature: string
  digest: string
  /** fingerprint */
  signer: string
  /** compressed, as signed */
  payload: Uint8Array
}

/** `operators` are the public key lines that may sign. */
export async function openInner(innerBytes: Uint8Array, operators: ReadonlySet<string>): Promise<Opened> {
  const inner = await parseInner(innerBytes)
  // BUNDLE 9.4: the signature is checked before a byte of the release is interpreted
  const { publicKey, fingerprint } = verify(inner.signature, 'release@medulla', inner.release)
  if (!operators.has(publicKey)) {
    throw new Refusal('unknown-operator', `release is signed by ${fingerprint}, who is no operator of this robot`)
  }
  const release = parseRelease(inner.release)
  checkPayload(inner.payload, release)
  return {
    release,
    releaseBytes: inner.release,
    signature: inner.signature,
    digest: releaseDigest(inner.release),
    signer: fingerprint,
    payload: inner.payload,
  }
}
