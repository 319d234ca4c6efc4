/** Runtimes for the tests of the store, as the verifier returns them; signing has its own tests. */
import { packPayload } from '../../../deploy/shared/bundle/payload.ts'
import { encodeRelease, releaseDigest } from '../../../deploy/shared/bundle/release.ts'
import type { PushedRuntime } from '../../../runtime/store/runtimes.ts'
import type { VerifiedRuntime } from '../../../runtime/store/verifier.ts'
import { releaseOf } from '../../fixtures/manifests.ts'

export async function runtime(counter: number): Promise<VerifiedRuntime> {
  const about = { version: `1.0.${counter}`, node: '>=20.19', packages: {} }
  const files = [
    { name: 'package.json', bytes: Buffer.from(JSON.stringify({ name: 'medulla', ...about })) },
    { name: 'dist/runtime/main.js', bytes: Buffer.alloc(50_000, `// ${counter}\n`) },
    { name: 'dist/runtime/endpoint/main.js', bytes: Buffer.alloc(50_000, `/* ${counter} */\n`) },
    { name: 'dist/drivers/x.js', bytes: Buffer.from('x') },
  ]
  const packed = await packPayload(files)
  const { sha256, length, unpacked, h1 } = packed
  const release = releaseOf({
    kind: 'runtime',
    program: 'medulla',
    version: about.version,
    payload: { sha256, length, unpacked },
    h1,
    counter,
  })
  const releaseBytes = encodeRelease(release)
  return {
    release,
    releaseBytes,
    signature: 'not signed',
    digest: releaseDigest(releaseBytes),
    signer: 's',
    payload: packed.bytes,
    files: new Map(files.map(({ name, bytes }) => [name, bytes])),
    about,
  }
}

export function pushed({ digest, release, signer }: VerifiedRuntime): PushedRuntime {
  const { version, counter } = release
  return { digest, version, counter, base: '1.0.0', signer, pusher: 'p', time: '2026-01-01T00:00:00.000Z' }
}
