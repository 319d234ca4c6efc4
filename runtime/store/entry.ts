/**
 * Invariant: what leaves a store entry is, byte for byte, what was verified when it was installed.
 *
 * An entry is the folder `store/<hex of the release digest>/`: the digest names the release, the release names the payload
 * by hash, and install.json (with a hash of its own) names the signature. A start asks for nothing else: no clock, no policy.
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

/** Who brought a release here, and what exactly was verified. */
export interface InstallRecord {
  format: 'medulla-install/1'
  /** `sha256:…` of the exact release bytes */
  digest: string
  /** hex, of payload.tar.gz */
  payload: string
  h1: string
  /** `sha256:…` of the exact text of release.sig */
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
/** What a program's payload holds, besides what lies in files/ and maybe a source map (BUNDLE 5.8, 11.9). */
const PROGRAM_FILES = ['buildinfo.json', 'manifest.json', 'program.mjs'] as const
const SOURCE_MAP = 'program.mjs.map'

const DIGEST = /^sha256:([0-9a-f]{64})$/

export function digestHex(digest: string): string {
  const hex = DIGEST.exec(digest)?.[1]
  if (hex === undefined)
    throw new Refusal('not-found', `'${digest}' is not a release digest, expected sha256: and 64 hex digits`)
  return hex
}

/** Throws Refusal `not-found` when there is no such entry, `bad-hash` when a byte of it is not as installed. */
export async function readEntry(store: string, digest: string): Promise<StoredBundle> {
  const entry = await readParts(store, digest)
  try {
    checkPayload(entry.payload, entry.release)
  } catch (cause) {
    throw changed(digest, cause)
  }
  return entry
}

/** All but the payload's own check, so that a caller who unpacks does not hash it twice. */
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

/** What was verified at the door cannot fail the same check here, unless it was changed on disk. */
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

/** Refuses a payload that is not one program: {@link PROGRAM_FILES}, files/ and maybe a source map, the manifest of this very release. */
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
  // BUNDLE 4.2
  const manifest = parseManifest(files.get('manifest.json') ?? new Uint8Array())
  // BUNDLE 10.10
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

/** Writes the program's files, read-only, into `folder` (made 0700 when absent) for one instance. They must not exist. */
export async function extractEntry(store: string, digest: string, folder: string): Promise<InstallRecord> {
  const { record, release, payload } = await readParts(store, digest)
  const files = await unpackPayload(payload, release).catch((cause) => {
    throw changed(digest, cause)
  })
  checkProgram(release, files)
  await writeProgram(folder, files)
  return record
}

/** As files that only their owner may read, and nobody write. `folder` is made when it is absent, its files must not exist. */
export async function writeProgram(folder: string, files: ReadonlyMap<string, Uint8Array>): Promise<void> {
  for (const [name, bytes] of files) {
    const path = join(folder, name)
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    await writeFile(path, bytes, { mode: 0o400, flag: 'wx' })
  }
}
