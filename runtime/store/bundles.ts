/**
 * The store of installed bundles. Invariant: it holds only whole, verified bundles, each under the digest of its release; a kill
 * at any point leaves the store as it was before or after the call (test/runtime/store/bundles.test.ts).
 */
import { lstat, mkdir, open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { BUNDLE_PIECE, type BundlePart } from '../../deploy/shared/api.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { makeDirAtomic, recoverDir, removeDirAtomic, writeNew } from './atomic.ts'
import type { CheckedEntry, InstallRecord } from './entry.ts'
import { checkEntry, digestHex, ENTRY_FILES, extractEntry } from './entry.ts'
import { encodeRecord, readRecord, sha256 } from './record.ts'
import type { VerifiedBundle } from './verifier.ts'

/** Checks and unpacks an entry; on the robot in the worker thread of BundleVerifier. */
export interface Extractor {
  check(store: string, digest: string): Promise<CheckedEntry>
  extract(store: string, digest: string, folder: string): Promise<InstallRecord>
}

export class Bundles {
  readonly dir: string
  readonly #extractor: Extractor
  /** The last put or prune: they run one after the other. */
  #last: Promise<unknown> = Promise.resolve()
  readonly #held: string[] = []

  private constructor(dir: string, extractor: Extractor) {
    this.dir = dir
    this.#extractor = extractor
  }

  /** Opens `<home>/store`, and removes the temporary files that a kill left behind. */
  static async open(
    dir: string,
    extractor: Extractor = { check: checkEntry, extract: extractEntry },
  ): Promise<Bundles> {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    await recoverDir(dir)
    return new Bundles(dir, extractor)
  }

  /** On disk when it resolves. An entry that is there keeps its record; a damaged one is replaced. */
  put(verified: VerifiedBundle, meta: { pusher: string; time: string }): Promise<InstallRecord> {
    return this.#queue(async () => {
      const path = join(this.dir, digestHex(verified.digest))
      if (await exists(path)) {
        try {
          return (await this.load(verified.digest)).record
        } catch (error) {
          if (!(error instanceof Refusal)) throw error
          await removeDirAtomic(path)
        }
      }
      const record: InstallRecord = {
        format: 'medulla-install/1',
        digest: verified.digest,
        // Compared with the payload by the verifier: to hash 10 MB again would hold the body's loop for more than 5 ms.
        payload: verified.release.payload.sha256,
        h1: verified.release.h1,
        signature: sha256(verified.signature),
        signer: verified.signer,
        pusher: meta.pusher,
        time: meta.time,
        manifest: verified.manifest,
      }
      const contents: Record<(typeof ENTRY_FILES)[number], string | Uint8Array> = {
        release: verified.releaseBytes,
        'release.sig': verified.signature,
        'payload.tar.gz': verified.payload,
        'install.json': encodeRecord(record),
      }
      await makeDirAtomic(path, async (temp) => {
        await Promise.all(ENTRY_FILES.map((name) => writeNew(join(temp, name), contents[name])))
      })
      return record
    })
  }

  /** Throws Refusal `not-found`, or `bad-hash` when a byte differs from what was installed. */
  load(digest: string): Promise<CheckedEntry> {
    return this.#extractor.check(this.dir, digest)
  }

  /** The install record, without reading the payload. Null when there is no entry. */
  record(digest: string): Promise<InstallRecord | null> {
    return readRecord(join(this.dir, digestHex(digest), 'install.json'), 'medulla-install/1')
  }

  /** A piece of a part as it is on disk, unchecked, of at most BUNDLE_PIECE bytes; `data` is base64. */
  async piece(digest: string, part: BundlePart, offset: number): Promise<{ length: number; data: string }> {
    const file = await open(join(this.dir, digestHex(digest), part)).catch((cause) => {
      throw new Refusal('not-found', `${part} of ${digest} cannot be read`, undefined, { cause })
    })
    try {
      const { length, bytes } = { length: (await file.stat()).size, bytes: Buffer.alloc(BUNDLE_PIECE) }
      const { bytesRead } = await file.read(bytes, 0, bytes.length, offset)
      return { length, data: bytes.toString('base64', 0, bytesRead) }
    } finally {
      await file.close()
    }
  }

  /** Checks an entry as {@link load} does, and writes the program's files (0400) into `folder`, in memory. */
  extract(digest: string, folder: string): Promise<InstallRecord> {
    return this.#extractor.extract(this.dir, digest, folder)
  }

  /** The digests of all entries, damaged ones included. */
  async list(): Promise<string[]> {
    return (await readdir(this.dir)).filter((name) => /^[0-9a-f]{64}$/.test(name)).map((hex) => `sha256:${hex}`)
  }

  /** Keeps the digest from being pruned until the returned function is called (HANDOVER 8.5). */
  hold(digest: string): () => void {
    this.#held.push(digest)
    return () => void this.#held.splice(this.#held.indexOf(digest), 1)
  }

  /** Removes all entries except those held and those of `keep`; returns the removed digests. */
  prune(keep: () => ReadonlySet<string>): Promise<string[]> {
    return this.#queue(async () => {
      const gone: string[] = []
      for (const digest of await this.list()) {
        // `keep` is called for each entry: a slot may have begun to need it during the last removal.
        if (keep().has(digest) || this.#held.includes(digest)) continue
        await removeDirAtomic(join(this.dir, digestHex(digest)))
        gone.push(digest)
      }
      return gone
    })
  }

  #queue<T>(job: () => Promise<T>): Promise<T> {
    const next = this.#last.then(job, job)
    this.#last = next.catch(() => {})
    return next
  }
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  )
}
