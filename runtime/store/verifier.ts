/**
 * Verifies bundles in a worker thread with a memory limit and a deadline, one job at a time. Invariant: the bytes that are used
 * are those that were verified: the staged file is copied once, so that the endpoint cannot replace it after the check
 * (test/runtime/store/verifier.test.ts).
 */
import { LIMITS } from '../../deploy/shared/bundle/limits.ts'
import type { Manifest } from '../../deploy/shared/bundle/manifest.ts'
import type { Release } from '../../deploy/shared/bundle/release.ts'
import type { RuntimePackage } from '../../deploy/shared/bundle/runtimepackage.ts'
import type { RefusalCode } from '../../deploy/shared/errors.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { runtimeUrl } from '../places.ts'
import { BoundedWorker, type WorkerFailure } from '../plumbing/boundedworker.ts'
import type { CheckedEntry, InstallRecord } from './entry.ts'

export interface VerifyJob {
  /** Path of the staged tar file. */
  stagedFile: string
  /** Its exact length in bytes. */
  length: number
  /** The public keys that may sign releases: {@link Operators.signers}. */
  signers: string[]
}

interface VerifiedBytes {
  release: Release
  releaseBytes: Uint8Array
  /** Armored SSHSIG. */
  signature: string
  digest: string
  /** Fingerprint of the signing key. */
  signer: string
  payload: Uint8Array
  files: Map<string, Uint8Array>
}
/** A release that goes into a slot. */
export interface VerifiedBundle extends VerifiedBytes {
  manifest: Manifest
}
/** A release that replaces the runtime. */
export interface VerifiedRuntime extends VerifiedBytes {
  about: RuntimePackage
}

/** What is known before the payload is unpacked: enough for policy up to BUNDLE 10.9. */
export type Signed = Pick<VerifiedBundle, 'release' | 'digest' | 'signer'>
/** Called on the body's thread; a refusal ends the job. */
export type Admit = (signed: Signed) => Refusal | null

export type VerifierRequest =
  | ({ op: 'verify'; limit: number } & VerifyJob)
  /** `unpack` and `drop` answer `ask`. */
  | { op: 'unpack'; kind: Release['kind'] }
  | { op: 'drop' }
  | { op: 'check'; store: string; digest: string }
  | { op: 'extract'; store: string; digest: string; folder: string }
  | { op: 'age-key' }
  | { op: 'open-config'; sealed: string; identity: string }
export type VerifierAnswer =
  | { ask: Signed }
  | { ok: true; value: VerifierValue }
  | { ok: false; error: { code: RefusalCode; message: string; hint: string | undefined } }

/** `identity` is secret. */
export interface AgeKey {
  identity: string
  recipient: string
}
/** The results of the jobs; a string is an opened config value. */
export type VerifierValue = VerifiedBundle | VerifiedRuntime | CheckedEntry | InstallRecord | AgeKey | string

export interface VerifierOptions {
  /** The compiled worker; default: store/verifierworker.js of this runtime. */
  worker?: URL
  /** The worker is ended when a job takes longer than this. */
  deadlineMs?: number
  maxBytes?: number
  maxHeapMb?: number
}

export class BundleVerifier {
  readonly #worker: BoundedWorker<VerifierAnswer>
  readonly #maxBytes: number

  /** Starts the worker at once, so that the first push does not wait for it. */
  constructor(opts: VerifierOptions = {}) {
    const { worker = runtimeUrl('store/verifierworker.js'), deadlineMs = 30_000, maxHeapMb = 128 } = opts
    this.#maxBytes = opts.maxBytes ?? LIMITS.bundle
    this.#worker = new BoundedWorker({
      script: worker,
      name: 'bundle verifier',
      limits: { maxOldGenerationSizeMb: maxHeapMb, maxYoungGenerationSizeMb: 32 },
      deadlineMs,
      failed: (failure) => refusalOf(failure, deadlineMs, maxHeapMb),
    })
  }

  /**
   * Checks signature, signer and hash, calls `admit`, then unpacks and checks the manifest (BUNDLE 9.4, 9.5). Throws the
   * Refusal of the first check that failed; `bad-bundle` when the worker ran out of time or memory.
   */
  async verify(job: VerifyJob, admit: Admit = () => null): Promise<VerifiedBundle> {
    return (await this.#do({ op: 'verify', limit: this.#maxBytes, ...job }, admit)) as VerifiedBundle
  }

  /** As {@link verify}, for a release of kind `runtime`, which has a package.json instead of a manifest (BUNDLE 14.2). */
  async verifyRuntime(job: VerifyJob, admit: Admit): Promise<VerifiedRuntime> {
    return (await this.#do({ op: 'verify', limit: this.#maxBytes, ...job }, admit, 'runtime')) as VerifiedRuntime
  }

  /** Runs `checkEntry` in the worker: to hash a payload of 10 MB would hold the body's loop for more than 5 ms. */
  async check(store: string, digest: string): Promise<CheckedEntry> {
    return (await this.#do({ op: 'check', store, digest })) as CheckedEntry
  }

  /** Runs `extractEntry` in the worker. */
  async extract(store: string, digest: string, folder: string): Promise<InstallRecord> {
    return (await this.#do({ op: 'extract', store, digest, folder })) as InstallRecord
  }

  /** Makes a key pair in the worker, because age-encryption takes 70 ms to load. */
  async ageKey(): Promise<AgeKey> {
    return (await this.#do({ op: 'age-key' })) as AgeKey
  }

  /** Opens a sealed config value (BUNDLE 13.3). */
  async openConfig(sealed: string, identity: string): Promise<string> {
    return (await this.#do({ op: 'open-config', sealed, identity })) as string
  }

  /** Jobs in flight are refused. Idempotent. */
  close(): Promise<void> {
    return this.#worker.close()
  }

  #do(request: VerifierRequest, admit: Admit = () => null, kind: Release['kind'] = 'program'): Promise<VerifierValue> {
    return this.#worker.run(request, (answer, post) => {
      if ('ask' in answer) {
        const refusal = admission(admit, answer.ask)
        const next: VerifierRequest = refusal === null ? { op: 'unpack', kind } : { op: 'drop' }
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
    return new Refusal('internal', 'the policy check failed', undefined, { cause })
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
