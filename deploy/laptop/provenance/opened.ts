/** Opens a bundle on a laptop, to look at it: checks the signature and every hash, whoever signed it and whomever it is for. */
import { encodeInner, type Inner, parseInner } from '../../shared/bundle/inner.ts'
import { type Manifest, parseManifest } from '../../shared/bundle/manifest.ts'
import { type OpenedBundle, openInner } from '../../shared/bundle/open.ts'
import { checkPayload, unpackPayload } from '../../shared/bundle/payload.ts'
import { parseRelease, releaseDigest } from '../../shared/bundle/release.ts'
import { openSealed } from '../../shared/bundle/seal.ts'
import { verify } from '../../shared/bundle/sshsig.ts'
import { Refusal } from '../../shared/errors.ts'
import { BUILD_INFO_FILE, parseBuildInfo, type ReadBuildInfo } from '../buildinfo.ts'

export interface Inspected extends Omit<OpenedBundle, 'payload'> {
  files: ReadonlyMap<string, Uint8Array>
  manifest: Manifest
  info: ReadBuildInfo
}

const AGE_HEADER = 'age-encryption.org/'

/** The content of a sealed bundle, by the first identity that opens it; bytes that are not sealed are returned as they are. */
export async function unseal(bytes: Uint8Array, identities: readonly string[]): Promise<Uint8Array> {
  if (!Buffer.from(bytes.subarray(0, AGE_HEADER.length)).equals(Buffer.from(AGE_HEADER))) return bytes
  for (const identity of identities) {
    try {
      return await openSealed(bytes, identity)
    } catch (error) {
      if (!(error instanceof Refusal) || error.code !== 'wrong-robot') throw error
    }
  }
  throw new Refusal(
    'no-key',
    'the bundle is sealed to other keys than those of this laptop',
    'give the age key of a robot with --identity FILE, or look at what runs: -d ROBOT',
  )
}

/**
 * What a robot has on its disk, checked against the digest under which it was installed. Throws `bad-hash`, which names the file
 * that was modified there, or `bad-bundle`.
 */
export async function inspectStored({ digest, ...inner }: Inner & { digest: string }): Promise<Inspected> {
  const got = releaseDigest(inner.release)
  if (got !== digest) throw modified('release', `expected ${digest}, got ${got}`)
  try {
    verify(inner.signature, 'release@medulla', inner.release)
  } catch (cause) {
    throw modified('release.sig', cause instanceof Refusal ? cause.message : String(cause), cause)
  }
  try {
    checkPayload(inner.payload, parseRelease(inner.release))
  } catch (cause) {
    throw modified('payload.tar.gz', cause instanceof Refusal ? cause.message : String(cause), cause)
  }
  return inspectBundle(await encodeInner(inner))
}

function modified(file: string, why: string, cause?: unknown): Refusal {
  const hint = 'push the program again, and find out who can write to the disk of the robot'
  return new Refusal('bad-hash', `the robot's ${file} was modified: ${why}`, hint, { cause })
}

/** `inner` is the content of a sealed bundle. Throws the refusal that a robot would answer. */
export async function inspectBundle(inner: Uint8Array): Promise<Inspected> {
  const { signature, release } = await parseInner(inner)
  // who signed is shown to a person, who decides: the operators of a robot are not known here
  const { publicKey } = verify(signature, 'release@medulla', release)
  const { payload, ...opened } = await openInner(inner, new Set([publicKey]))
  const files = await unpackPayload(payload, opened.release)
  const part = (name: string): Uint8Array => {
    const bytes = files.get(name)
    if (bytes === undefined) throw new Refusal('bad-bundle', `the payload has no ${name}`)
    return bytes
  }
  const [manifest, info] = [parseManifest(part('manifest.json')), parseBuildInfo(part(BUILD_INFO_FILE))]
  const { program, version } = opened.release
  for (const { of, said } of [
    { of: 'manifest.json', said: manifest },
    { of: BUILD_INFO_FILE, said: info },
  ]) {
    if (said.program === program && said.version === version) continue
    throw new Refusal(
      'bad-bundle',
      `${of} names ${said.program} ${said.version}, but the release is ${program} ${version}`,
    )
  }
  return { ...opened, files, manifest, info }
}
