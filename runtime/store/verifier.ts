/**
 * Invariant: nothing a stranger wrote is opened on the body's own thread, and what is verified is what is used.
 *
 * One worker thread with a memory limit and a deadline, one job at a time. It copies the staged bytes once; the file is
 * never read again, so whoever owns the staging folder cannot exchange it after the check.
 */
import { LIMITS } from '../../deploy/shared/bundle/limits.ts'
import type { Manifest } from '../../deploy/shared/bundle/manifest.ts'
import type { Release } from '../../deploy/shared/bundle/release.ts'
import type { RefusalCode } from '../../deploy/shared/errors.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { runtimeUrl } from '../places.ts'
import { BoundedWorker, type WorkerFailure } from '../plumbing/boundedworker.ts'
import type { InstallRecord } from './entry.ts'

export interface VerifyJob {
  /** path of the staged tar */
  stagedFile: string
  /** its exact length */
  length: number
  /** public keys that may sign releases: {@link Operators.signers} */
  signers: string[]
}

export interface Verified {
  release: Release
  releaseBytes: Uint8Array
  /** armored SSHSIG */
  signature: string
  digest: string
  /** fingerprint */
  signer: string
  payload: Uint8Array
  files: Map<string, Uint8Array>
  manifest: Manifest
}

/** What is known before a byte is unpacked: enough for policy up to BUNDLE 10.9. */
export type Signed = Pick<Verified, 'release' | 'digest' | 'signer'>
/** Asked on the body's thread; a refusal ends the job. */
export type Admit = (signed: Signed) => Refusal | null

export type DoorRequest =
  | ({ op: 'verify'; limit: number } & VerifyJob)
  /** the answers to `ask` */
  | { op: 'unpack' }
  | { op: 'drop' }
  | { op: 'extract'; store: string; digest: string; folder: string }
  | { op: 'age-key' }
  | { op: 'open-config'; sealed: string; identity: string }
export type DoorAnswer =
  | { ask: Signed }
  | { ok: true; value: DoorValue }
  | { ok: false; error: { code: RefusalCode; message: string; hint: string | undefined } }

/** `identity` is secret. */
export interface AgeKey {
  identity: string
  recipient: string
}
/** What the jobs come to; the text is an opened config value. */
export type DoorValue = Verified | InstallRecord | AgeKey | string

export interface DoorOptions {
  /** The compiled worker; verifierworker.js beside this file by default. */
  worker?: URL
  /** For one job; the worker is ended when it takes longer. */
  deadlineMs?: number
  maxBytes?: number
  maxHeapMb?: number
}

export class BundleVerifier {
  readonly #worker: BoundedWorker<DoorAnswer>
  readonly #maxBytes: number

  /** Starts the worker at once, so that the first push does not wait for it. */
  constructor(opts: DoorOptions = {}) {
    const { worker = runtimeUrl('store/verifierworker.js'), deadlineMs = 30_000, maxHeapMb = 128 } = opts
    this.#maxBytes = opts.maxBytes ?? LIMITS.bundle
    this.#worker = new BoundedWorker({
      script: worker,
      name: 'door',
      limits: { maxOldGenerationSizeMb: maxHeapMb, maxYoungGenerationSizeMb: 32 },
      deadlineMs,
      failed: (failure) => refusalOf(failure, deadlineMs, maxHeapMb),
    })
  }

  /**
   * BUNDLE 9.4, 9.5: signature, signer and hash, then `admit`, then unpacking and the manifest. Throws the Refusal of the
   * first check that failed; `bad-bundle` when the worker ran out of time or memory.
   */
  async verify(job: VerifyJob, admit: Admit = () => null): Promise<Verified> {
    return (await this.#do({ op: 'verify', limit: this.#maxBytes, ...job }, admit)) as Verified
  }

  /** `extractEntry` in the worker. */
  async extract(store: string, digest: string, folder: string): Promise<InstallRecord> {
    return (await this.#do({ op: 'extract', store, digest, folder })) as InstallRecord
  }

  /** A new pair. In the worker, because age-encryption takes 70 ms to load. */
  async ageKey(): Promise<AgeKey> {
    return (await this.#do({ op: 'age-key' })) as AgeKey
  }

  /** BUNDLE 13.3 */
  async openConfig(sealed: string, identity: string): Promise<string> {
    return (await this.#do({ op: 'open-config', sealed, identity })) as string
  }

  /** Jobs in flight are refused. Idempotent. */
  close(): Promise<void> {
    return this.#worker.close()
  }

  #do(request: DoorRequest, admit: Admit = () => null): Promise<DoorValue> {
    return this.#worker.run(request, (answer, post) => {
      if ('ask' in answer) {
        const refusal = admission(admit, answer.ask)
        const next: DoorRequest = { op: refusal === null ? 'unpack' : 'drop' }
        post(next)
        if (refusal === null) return undefined
        throw refusal
      }
      if (answer.ok) return answer.value
      throw new Refusal(answer.error.code, answer.error.message, answer.error.hint)
    })
  }
}

function admission(admit: Admit, signed: Signed): Refusal | null {
  try {
    return admit(signed)
  } catch (cause) {
    return new Refusal('internal', 'policy could not be asked', undefined, { cause })
  }
}

function refusalOf(failure: WorkerFailure, deadlineMs: number, maxHeapMb: number): Refusal {
  switch (failure.why) {
    case 'late':
      return new Refusal('bad-bundle', `opening took longer than ${deadlineMs} ms`)
    case 'memory':
      return new Refusal('bad-bundle', `opening took more than ${maxHeapMb} MB of memory`)
    case 'error':
      return new Refusal('internal', 'the worker that opens bundles failed', undefined, { cause: failure.cause })
    case 'exit':
      return new Refusal('internal', `the worker that opens bundles ended with code ${failure.code}`)
    case 'closed':
      return new Refusal('body-away', 'the robot is shutting down')
  }
}
