/** Programs that can be started: each was verified, at its push or again against its install record. */
import type { Bundles } from '../../store/bundles.ts'
import { writeProgram } from '../../store/entry.ts'
import type { VerifiedBundle } from '../../store/verifier.ts'
import type { Runnable } from './running.ts'

/** From a push: the files are in memory, and `stored` resolves when they are in the store. */
export function verified(from: VerifiedBundle, stored: Promise<unknown>): Runnable {
  const { digest, release, signer, manifest, files } = from
  return {
    digest,
    program: release.program,
    version: release.version,
    signer,
    counter: release.counter,
    platform: release,
    h1: release.h1,
    manifest,
    stored,
    extract: (folder) => writeProgram(folder, files),
  }
}

/** From the store; throws Refusal `bad-hash` when a byte was changed since the release was installed. */
export async function stored(bundles: Bundles, digest: string): Promise<Runnable> {
  const begun = performance.now()
  const { record, release } = await bundles.load(digest)
  const check = { ms: performance.now() - begun }
  return {
    digest,
    check,
    program: release.program,
    version: release.version,
    signer: record.signer,
    counter: release.counter,
    platform: release,
    h1: release.h1,
    manifest: record.manifest,
    stored: Promise.resolve(),
    async extract(folder) {
      const begun = performance.now()
      await bundles.extract(digest, folder)
      check.ms += performance.now() - begun
    },
  }
}
