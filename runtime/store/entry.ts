/**
 * One entry of the store. Invariant: its files are read back, byte for byte, as they were verified when it was installed, or
 * refused (test/runtime/store/bundles.test.ts).
 *
 * An entry is the folder `store/<hex of the release digest>/`. The digest covers the release, the release has the hash of the
 * payload, and install.json, which has a hash of its own, has that of the signature. A start checks only these hashes: no
 * clock, no policy.
 */
import { lstat, mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { LIMITS } from '../../deploy/shared/bundle/limits.ts'
import type { Manifest } from '../../deploy/shared/bundle/manifest.ts'
import { parseManifest } from '../../deploy/shared/bundle/manifest.ts'
import { checkPayload, unpackPayload } from '../../deploy/shared/bundle/payload.ts'
import type { Release } from '../../deploy/shared/bundle/release.ts'
import { parseRelease } from '../../deploy/shared/bundle/release.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { readRecord, sha256 } from './record.ts'

/** Who pushed a release, and the hashes of what was verified. */
export interface InstallRecord {
  format: 'medulla-install/1'
  /** `sha256:…` of the exact release bytes. */
  digest: string
  /** SHA-256 of payload.tar.gz, in hex. */
  payload: string
  h1: string
  /** `sha256:…` of the exact text of release.sig. */
  signature: string
  signer: string
  pusher: string
  time: string
  manifest: Manifest
}

export interface StoredBundle {
  record: InstallRecord
  release: Release
  releaseBytes: Uint8Array
  signature: string
  payload: Uint8Array
}

export const ENTRY_FILES = ['release', 'release.sig', 'payload.tar.gz', 'install.json'] as const
/** The files of a program's payload, besides those in files/ and an optional source map (BUNDLE 5.8, 11.9). */
const PROGRAM_FILES = ['buildinfo.json', 'manifest.json', 'program.mjs'] as const
const SOURCE_MAP = 'program.mjs.map'

const DIGEST = /^sha256:([0-9a-f]{64})$/

export function digestHex(digest: string): string {
  const hex = DIGEST.exec(digest)?.[1]
  if (hex === undefined)
    throw new Refusal('not-found', `'${digest}' is not a release digest, expected sha256: and 64 hex digits`)
  return hex
}

/** Throws Refusal `not-found` when there is no such entry, `bad-hash` when a byte differs from what was installed. */
export async function readEntry(store: string, digest: string): Promise<StoredBundle> {
  const entry = await readParts(store, digest)
  try {
    checkPayload(entry.payload, entry.release)
  } catch (cause) {
    throw changed(digest, cause)
  }
  return entry
}

/** What a start needs to know of an entry before it is extracted. */
export type CheckedEntry = Pick<StoredBundle, 'record' | 'release'>

/** As {@link readEntry}, without the bytes. */
export async function checkEntry(store: string, digest: string): Promise<CheckedEntry> {
  const { record, release } = await readEntry(store, digest)
  return { record, release }
}

/** Reads and checks all but the payload, which unpacking hashes. */
async function readParts(store: string, digest: string): Promise<StoredBundle> {
  const folder = join(store, digestHex(digest))
  const record = await readRecord<InstallRecord>(join(folder, 'install.json'), 'medulla-install/1')
  if (record === null) {
    if (!(await exists(folder))) throw new Refusal('not-found', `${digest} is not in this robot's store`)
    throw new Refusal('bad-hash', `install.json of ${digest} is missing`)
  }
  const read = (name: string): Promise<Buffer> =>
    readFile(join(folder, name)).catch((cause) => {
      throw new Refusal('bad-hash', `${name} of ${digest} cannot be read`, undefined, { cause })
    })
  const [releaseBytes, signature, payload] = await Promise.all([
    read('release'),
    read('release.sig'),
    read('payload.tar.gz'),
  ])
  same('release', digest, digest, sha256(releaseBytes))
  same('install.json', digest, digest, record.digest)
  same('release.sig', digest, record.signature, sha256(signature))
  const release = parseRelease(releaseBytes)
  same('install.json', digest, release.payload.sha256, record.payload)
  return { record, release, releaseBytes, signature: signature.toString('utf8'), payload }
}

/** The payload passed this check at its push, so a failure means that it was changed on disk. */
function changed(digest: string, cause: unknown): unknown {
  if (!(cause instanceof Refusal)) return cause
  return new Refusal('bad-hash', `payload.tar.gz of ${digest} was changed on disk: ${cause.message}`, undefined, {
    cause,
  })
}

async function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  )
}

function same(file: string, digest: string, expected: string, actual: string): void {
  if (expected === actual) return
  throw new Refusal('bad-hash', `${file} of ${digest} was changed on disk: expected ${expected}, got ${actual}`)
}

/** Refuses a payload whose files are not {@link PROGRAM_FILES}, files/ and an optional source map, or whose manifest does not match the release. */
export function checkProgram(release: Release, files: ReadonlyMap<string, Uint8Array>): Manifest {
  if (release.kind !== 'program') {
    throw new Refusal('wrong-slot', `a slot takes a release of kind program, got ${release.kind}`)
  }
  const names = [...files.keys()].filter((name) => name !== SOURCE_MAP && !name.startsWith('files/')).sort()
  if (names.join() !== PROGRAM_FILES.join()) {
    throw new Refusal(
      'bad-bundle',
      `the payload holds ${names.join(', ') || 'nothing'}, expected ${PROGRAM_FILES.join(', ')}`,
    )
  }
  const mapped = files.get(SOURCE_MAP)?.length ?? 0
  if (mapped > LIMITS.sourceMap) {
    throw new Refusal('too-large', `${SOURCE_MAP}: ${mapped} bytes, at most ${LIMITS.sourceMap}`)
  }
  // The manifest comes from the unpacked payload only, whose hashes are signed (BUNDLE 4.2).
  const manifest = parseManifest(files.get('manifest.json') ?? new Uint8Array())
  // Manifest and release must name the same program and version (BUNDLE 10.10).
  for (const field of ['program', 'version'] as const) {
    if (manifest[field] !== release[field]) {
      throw new Refusal(
        'bad-bundle',
        `the manifest is for ${field} ${manifest[field]}, the release for ${release[field]}`,
      )
    }
  }
  return manifest
}

/** Checks an entry, and writes its files as {@link writeProgram} does. */
export async function extractEntry(store: string, digest: string, folder: string): Promise<InstallRecord> {
  const { record, release, payload } = await readParts(store, digest)
  const files = await unpackPayload(payload, release).catch((cause) => {
    throw changed(digest, cause)
  })
  checkProgram(release, files)
  await writeProgram(folder, files)
  return record
}

/** Writes files that only their owner may read (0400). Makes `folder` (0700) when it is absent; the files must not exist. */
export async function writeProgram(folder: string, files: ReadonlyMap<string, Uint8Array>): Promise<void> {
  for (const [name, bytes] of files) {
    const path = join(folder, name)
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    await writeFile(path, bytes, { mode: 0o400, flag: 'wx' })
  }
}
