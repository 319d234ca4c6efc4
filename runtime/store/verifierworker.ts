/** The worker thread of verifier.ts: answers each job with verified bytes, or the refusal of the first check that failed. */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { parentPort } from 'node:worker_threads'
import { type Opened, openInner } from '../../deploy/shared/bundle/open.ts'
import { unpackPayload } from '../../deploy/shared/bundle/payload.ts'
import { openConfigValue } from '../../deploy/shared/configvalue.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { generateAgeIdentity } from '../../deploy/shared/keys.ts'
import { checkProgram, extractEntry } from './entry.ts'
import type { DoorAnswer, DoorRequest, Verified, VerifyJob } from './verifier.ts'

/** Copies the staged file to memory: the endpoint has it open, and may change it at any time. */
async function copyStaged({ stagedFile, length, limit }: VerifyJob & { limit: number }): Promise<Uint8Array> {
  if (length > limit) throw new Refusal('too-large', `the bundle has ${length} bytes, at most ${limit} are allowed`)
  // O_NONBLOCK: a FIFO in its place must not block this thread.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
  const handle = await open(stagedFile, flags).catch((cause: NodeJS.ErrnoException) => {
    throw new Refusal('not-found', `the staged file cannot be opened: ${cause.code}`, undefined, { cause })
  })
  try {
    const stat = await handle.stat()
    if (!stat.isFile()) throw new Refusal('bad-bundle', 'the staged file is not a regular file')
    if (stat.size !== length) {
      throw new Refusal(
        stat.size < length ? 'truncated' : 'too-large',
        `the staged file has ${stat.size} bytes, expected ${length}`,
      )
    }
    const bytes = new Uint8Array(length)
    for (let at = 0; at < length; ) {
      const { bytesRead } = await handle.read(bytes, at, length - at, at)
      if (bytesRead === 0) throw new Refusal('truncated', `the staged file has ${at} bytes, expected ${length}`)
      at += bytesRead
    }
    return bytes
  } finally {
    await handle.close()
  }
}

/** The opened bundle, while the body decides whether to admit it. */
let opened: Opened | null = null

/** Unpacks the payload and checks the manifest, once the body has admitted the release (BUNDLE 9.5). */
async function unpack(): Promise<Verified> {
  if (opened === null) throw new TypeError('no bundle is open')
  const inner = opened
  opened = null
  const files = await unpackPayload(inner.payload, inner.release)
  return { ...inner, files, manifest: checkProgram(inner.release, files) }
}

/** Copies each result to a buffer of its own: views may share one, which is detached when it is transferred. */
function ownBuffers(verified: Verified): { value: Verified; transfer: ArrayBuffer[] } {
  const transfer: ArrayBuffer[] = []
  const own = (bytes: Uint8Array): Uint8Array => {
    const copy = new Uint8Array(bytes)
    transfer.push(copy.buffer)
    return copy
  }
  const files = new Map([...verified.files].map(([name, bytes]) => [name, own(bytes)]))
  const value = { ...verified, releaseBytes: own(verified.releaseBytes), payload: own(verified.payload), files }
  return { value, transfer }
}

async function answer(request: DoorRequest): Promise<{ value: DoorAnswer; transfer: ArrayBuffer[] } | null> {
  switch (request.op) {
    case 'verify': {
      // Signature, signer and hash; then the body is asked before anything is unpacked (BUNDLE 9.4).
      opened = await openInner(await copyStaged(request), new Set(request.signers))
      const { release, digest, signer } = opened
      return { value: { ask: { release, digest, signer } }, transfer: [] }
    }
    case 'unpack': {
      const { value, transfer } = ownBuffers(await unpack())
      return { value: { ok: true, value }, transfer }
    }
    case 'drop':
      opened = null
      return null
    case 'extract': {
      const value = await extractEntry(request.store, request.digest, request.folder)
      return { value: { ok: true, value }, transfer: [] }
    }
    case 'age-key':
      return { value: { ok: true, value: await generateAgeIdentity() }, transfer: [] }
    case 'open-config':
      return { value: { ok: true, value: await openConfigValue(request.sealed, request.identity) }, transfer: [] }
  }
}

parentPort?.on('message', async (request: DoorRequest) => {
  try {
    const answered = await answer(request)
    if (answered !== null) parentPort?.postMessage(answered.value, answered.transfer)
  } catch (error) {
    const code = error instanceof Refusal ? error.code : 'internal'
    const message = error instanceof Error ? error.message : String(error)
    const hint = error instanceof Refusal ? error.hint : undefined
    const refused: DoorAnswer = { ok: false, error: { code, message, hint } }
    parentPort?.postMessage(refused)
  }
})
