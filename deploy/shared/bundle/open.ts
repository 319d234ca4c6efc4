/**
 * Verifies the content of a bundle: a release that an operator signed, and the payload whose hash it names. Unpacks nothing
 * (BUNDLE 9).
 */
import { Refusal } from '../errors.ts'
import { parseInner } from './inner.ts'
import { checkPayload } from './payload.ts'
import { parseRelease, type Release, releaseDigest } from './release.ts'
import { verify } from './sshsig.ts'

export interface OpenedBundle {
  release: Release
  releaseBytes: Uint8Array
  /** armored, unchanged */
  signature: string
  digest: string
  /** fingerprint of the operator who signed */
  signer: string
  /** compressed, as signed */
  payload: Uint8Array
}

/** `operators` are the public key lines of the operators who may sign. */
export async function openInner(innerBytes: Uint8Array, operators: ReadonlySet<string>): Promise<OpenedBundle> {
  const inner = await parseInner(innerBytes)
  // the signature is verified before a byte of the release is interpreted (BUNDLE 9.4)
  const { publicKey, fingerprint } = verify(inner.signature, 'release@medulla', inner.release)
  if (!operators.has(publicKey)) {
    throw new Refusal('unknown-operator', `release is signed by ${fingerprint}, who is not an operator of this robot`)
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
