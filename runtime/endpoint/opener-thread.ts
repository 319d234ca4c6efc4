/** The worker thread of opener.ts: decrypts a bundle, and checks signature and hash. It answers every job once, and keeps nothing. */
import { parentPort, workerData } from 'node:worker_threads'
import 'age-encryption' // loaded now, so that the first push does not wait for it
import { openInner } from '../../deploy/shared/bundle/open.ts'
import { openSealed } from '../../deploy/shared/bundle/seal.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import type { OpenJob, OpenResult } from './opener.ts'

const { identities } = workerData as { identities: string[] }

async function open(job: OpenJob): Promise<OpenResult> {
  try {
    const opened = await openSealed(job.bundle, identities)
    const { digest, signer } = await openInner(opened, new Set(job.operators))
    // The buffer is transferred, so it must hold these bytes only.
    const whole = opened.byteOffset === 0 && opened.byteLength === opened.buffer.byteLength
    const inner = (whole ? opened : opened.slice()) as Uint8Array<ArrayBuffer>
    return { inner, digest, signer }
  } catch (error) {
    if (!(error instanceof Refusal)) return { error: { code: 'bad-bundle', message: 'the bundle could not be opened' } }
    const { code, message, hint } = error
    return { error: { code, message, ...(hint !== undefined && { hint }) } }
  }
}

parentPort?.on('message', (job: OpenJob) => {
  void open(job).then((result) => parentPort?.postMessage(result, 'inner' in result ? [result.inner.buffer] : []))
})
