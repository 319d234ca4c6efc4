/** The content of a sealed bundle: a tar of release, signature and payload, in this order and nothing else (BUNDLE 7). */
import { Refusal } from '../errors.ts'
import { LIMITS } from './limits.ts'
import { readTar, writeTar } from './tar.ts'

export interface Inner {
  release: Uint8Array
  /** armored SSHSIG */
  signature: string
  payload: Uint8Array
}

const NAMES = ['release', 'release.sig', 'payload.tar.gz'] as const

export function encodeInner(inner: Inner): Promise<Uint8Array> {
  const contents = [inner.release, Buffer.from(inner.signature), inner.payload]
  return writeTar(
    NAMES.map((name, i) => ({ name, bytes: contents[i] ?? new Uint8Array() })),
    'given',
  )
}

export async function parseInner(bytes: Uint8Array): Promise<Inner> {
  if (bytes.length > LIMITS.bundle)
    throw new Refusal('too-large', `bundle: ${bytes.length} bytes, at most ${LIMITS.bundle}`)
  const files = await readTar(bytes, 'given')
  const [release, signature, payload] = NAMES.map((name) => files.find((file) => file.name === name)?.bytes)
  // a missing signature has its own code (BUNDLE 7.2)
  if (release && payload && (!signature || signature.length === 0)) {
    throw new Refusal('unsigned', 'bundle: release.sig is missing')
  }
  if (
    !release ||
    !signature ||
    !payload ||
    files.length !== NAMES.length ||
    files.some((file, i) => file.name !== NAMES[i])
  ) {
    throw new Refusal(
      'bad-bundle',
      `bundle: expected ${NAMES.join(', ')}, got ${files
        .map((file) => file.name)
        .join(', ')
        .slice(0, 120)}`,
    )
  }
  // sizes before the contents are read (BUNDLE 1.4)
  if (release.length > LIMITS.release)
    throw new Refusal('too-large', `release: ${release.length} bytes, at most ${LIMITS.release}`)
  if (signature.length > LIMITS.signature) {
    throw new Refusal('too-large', `signature: ${signature.length} bytes, at most ${LIMITS.signature}`)
  }
  if (payload.length > LIMITS.payload)
    throw new Refusal('too-large', `payload: ${payload.length} bytes, at most ${LIMITS.payload}`)
  return { release, signature: Buffer.from(signature).toString('latin1'), payload }
}
