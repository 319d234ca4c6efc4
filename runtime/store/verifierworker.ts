/** The worker thread of verifier.ts: answers each job with verified bytes, or the refusal of the first check that failed. */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { parentPort } from 'node:worker_threads'
import { type OpenedBundle, openInner } from '../../deploy/shared/bundle/open.ts'
import { unpackPayload } from '../../deploy/shared/bundle/payload.ts'
import type { Release } from '../../deploy/shared/bundle/release.ts'
import { checkRuntime } from '../../deploy/shared/bundle/runtimepackage.ts'
import { openConfigValue } from '../../deploy/shared/configvalue.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { generateAgeIdentity } from '../../deploy/shared/keys.ts'
import { checkEntry, checkProgram, extractEntry } from './entry.ts'
import type { VerifiedBundle, VerifiedRuntime, VerifierAnswer, VerifierRequest, VerifyJob } from './verifier.ts'

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
let opened: OpenedBundle | null = null

/** Unpacks the payload and checks what it holds, once the body has admitted the release (BUNDLE 9.5, 14.2). */
async function unpack(kind: Release['kind']): Promise<VerifiedBundle | VerifiedRuntime> {
  if (opened === null) throw new TypeError('no bundle is open')
  const inner = opened
  opened = null
  const files = await unpackPayload(inner.payload, inner.release)
  if (kind === 'runtime') return { ...inner, files, about: checkRuntime(inner.release, files) }
  return { ...inner, files, manifest: checkProgram(inner.release, files) }
}

/** Copies each result to a buffer of its own: views may share one, which is detached when it is transferred. */
function ownBuffers<T extends VerifiedBundle | VerifiedRuntime>(verified: T): { value: T; transfer: ArrayBuffer[] } {
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

async function answer(request: VerifierRequest): Promise<{ value: VerifierAnswer; transfer: ArrayBuffer[] } | null> {
  switch (request.op) {
    case 'verify': {
      // Signature, signer and hash; then the body is asked before anything is unpacked (BUNDLE 9.4).
      opened = await openInner(await copyStaged(request), new Set(request.signers))
      const { release, digest, signer } = opened
      return { value: { ask: { release, digest, signer } }, transfer: [] }
    }
    case 'unpack': {
      const { value, transfer } = ownBuffers(await unpack(request.kind))
      return { value: { ok: true, value }, transfer }
    }
    case 'drop':
      opened = null
      return null
    case 'check': {
      const value = await checkEntry(request.store, request.digest)
      return { value: { ok: true, value }, transfer: [] }
    }
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

parentPort?.on('message', async (request: VerifierRequest) => {
  try {
    const answered = await answer(request)
    if (answered !== null) parentPort?.postMessage(answered.value, answered.transfer)
  } catch (error) {
    const code = error instanceof Refusal ? error.code : 'internal'
    const message = error instanceof Error ? error.message : String(error)
    const hint = error instanceof Refusal ? error.hint : undefined
    const refused: VerifierAnswer = { ok: false, error: { code, message, hint } }
    parentPort?.postMessage(refused)
  }
})
