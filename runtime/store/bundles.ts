/**
 * Invariant: the store holds only whole, verified bundles, each under the digest of its release; a kill at any point
 * leaves the store as it was before or after the call.
 */
import { createHash } from 'node:crypto'
import { lstat, mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Refusal } from '../../deploy/shared/errors.ts'
import { makeDirAtomic, recoverDir, removeDirAtomic, writeNew } from './atomic.ts'
import type { InstallRecord, StoredBundle } from './entry.ts'
import { digestHex, ENTRY_FILES, extractEntry, readEntry } from './entry.ts'
import { encodeRecord, readRecord, sha256 } from './record.ts'
import type { Verified } from './verifier.ts'

/** Where re-checking and unpacking run; the door's worker thread, unless told otherwise. */
export interface Extractor {
  extract(store: string, digest: string, folder: string): Promise<InstallRecord>
}

export class Bundles {
  readonly dir: string
  readonly #extractor: Extractor
  /** Puts and prunes one after the other: one owner of the folder's names. */
  #last: Promise<unknown> = Promise.resolve()
  readonly #held: string[] = []

  private constructor(dir: string, extractor: Extractor) {
    this.dir = dir
    this.#extractor = extractor
  }

  /** Opens `<home>/store`, removing what a kill left half done. */
  static async open(dir: string, extractor: Extractor = { extract: extractEntry }): Promise<Bundles> {
    await mkdir(dir, { recursive: true, mode: 0o700 })
    await recoverDir(dir)
    return new Bundles(dir, extractor)
  }

  /** Durable when it resolves. Putting a bundle again keeps the first record; a damaged entry is replaced. */
  put(verified: Verified, meta: { pusher: string; time: string }): Promise<InstallRecord> {
    return this.#queue(async () => {
      const path = join(this.dir, digestHex(verified.digest))
      if (await exists(path)) {
        try {
          return (await readEntry(this.dir, verified.digest)).record
        } catch (error) {
          if (!(error instanceof Refusal)) throw error
          await removeDirAtomic(path)
        }
      }
      const record: InstallRecord = {
        format: 'medulla-install/1',
        digest: verified.digest,
        payload: createHash('sha256').update(verified.payload).digest('hex'),
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

  /** Throws Refusal `not-found`, or `bad-hash` when a byte is not as installed: go back to the last good one. */
  load(digest: string): Promise<StoredBundle> {
    return readEntry(this.dir, digest)
  }

  /** Who brought it and what it says of itself, without a look at its payload. Null when it is not there. */
  record(digest: string): Promise<InstallRecord | null> {
    return readRecord(join(this.dir, digestHex(digest), 'install.json'), 'medulla-install/1')
  }

  /** As {@link load}, then writes the program's files (0400) into `folder`, a tmpfs of one instance. */
  extract(digest: string, folder: string): Promise<InstallRecord> {
    return this.#extractor.extract(this.dir, digest, folder)
  }

  /** Digests of all entries, damaged ones included. */
  async list(): Promise<string[]> {
    return (await readdir(this.dir)).filter((name) => /^[0-9a-f]{64}$/.test(name)).map((hex) => `sha256:${hex}`)
  }

  /** Until the returned function is called the digest is not pruned, whoever else keeps it or not (HANDOVER 8.5). */
  hold(digest: string): () => void {
    this.#held.push(digest)
    return () => void this.#held.splice(this.#held.indexOf(digest), 1)
  }

  /** Removes all entries but those held and those to `keep`, which is asked when it is this call's turn; answers what it removed. */
  prune(keep: () => ReadonlySet<string>): Promise<string[]> {
    return this.#queue(async () => {
      const gone: string[] = []
      for (const digest of await this.list()) {
        // each in its turn: meanwhile another slot may have begun to need it
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
