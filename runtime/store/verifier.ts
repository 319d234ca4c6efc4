/**
 * Invariant: nothing a stranger wrote is opened on the body's own thread, and what is verified is what is used.
 *
 * One worker thread with a memory limit and a deadline, one job at a time. It copies the staged bytes once; the file is
 * never read again, so whoever owns the staging folder cannot exchange it after the check.
 */
import { Worker } from 'node:worker_threads'
import { LIMITS } from '../../deploy/shared/bundle/limits.ts'
import type { Manifest } from '../../deploy/shared/bundle/manifest.ts'
import type { Release } from '../../deploy/shared/bundle/release.ts'
import type { RefusalCode } from '../../deploy/shared/errors.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { runtimeUrl } from '../places.ts'
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

interface Pending {
  request: DoorRequest
  admit: Admit
  resolve(value: DoorValue): void
  reject(error: unknown): void
}

export class BundleVerifier {
  readonly #url: URL
  readonly #deadlineMs: number
  readonly #maxBytes: number
  readonly #maxHeapMb: number
  readonly #queue: Pending[] = []
  #worker: Worker | null = null
  #current: { job: Pending; timer: NodeJS.Timeout } | null = null
  #closed = false

  /** Starts the worker at once, so that the first push does not wait for it. */
  constructor(opts: DoorOptions = {}) {
    this.#url = opts.worker ?? runtimeUrl('store/verifierworker.js')
    this.#deadlineMs = opts.deadlineMs ?? 30_000
    this.#maxBytes = opts.maxBytes ?? LIMITS.bundle
    this.#maxHeapMb = opts.maxHeapMb ?? 128
    this.#start()
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
  async close(): Promise<void> {
    this.#closed = true
    const worker = this.#worker
    this.#worker = null
    this.#fail(new Refusal('body-away', 'the robot is shutting down'))
    for (const job of this.#queue.splice(0)) job.reject(new Refusal('body-away', 'the robot is shutting down'))
    await worker?.terminate()
  }

  #do(request: DoorRequest, admit: Admit = () => null): Promise<DoorValue> {
    if (this.#closed) return Promise.reject(new Refusal('body-away', 'the robot is shutting down'))
    return new Promise((resolve, reject) => {
      this.#queue.push({ request, admit, resolve, reject })
      this.#next()
    })
  }

  #next(): void {
    if (this.#current !== null || this.#closed) return
    const job = this.#queue.shift()
    if (job === undefined) return
    const worker = this.#worker ?? this.#start()
    const timer = setTimeout(() => {
      this.#replace(worker, new Refusal('bad-bundle', `opening took longer than ${this.#deadlineMs} ms`))
    }, this.#deadlineMs)
    this.#current = { job, timer }
    worker.ref()
    worker.postMessage(job.request)
  }

  #start(): Worker {
    const worker = new Worker(this.#url, {
      name: 'door',
      env: {},
      resourceLimits: { maxOldGenerationSizeMb: this.#maxHeapMb, maxYoungGenerationSizeMb: 32 },
    })
    worker.unref()
    worker.on('message', (answer: DoorAnswer) => {
      if (worker === this.#worker) this.#settle(answer)
    })
    worker.on('error', (cause: NodeJS.ErrnoException) => {
      const memory = cause.code === 'ERR_WORKER_OUT_OF_MEMORY'
      const refusal = memory
        ? new Refusal('bad-bundle', `opening took more than ${this.#maxHeapMb} MB of memory`)
        : new Refusal('internal', 'the worker that opens bundles failed', undefined, { cause })
      this.#replace(worker, refusal)
    })
    worker.on('exit', (code) => {
      this.#replace(worker, new Refusal('internal', `the worker that opens bundles ended with code ${code}`))
    })
    this.#worker = worker
    return worker
  }

  /** The next job gets a new worker; nothing of this one is heard any more. */
  #replace(worker: Worker, refusal: Refusal): void {
    if (worker !== this.#worker) return
    this.#worker = null
    void worker.terminate()
    this.#fail(refusal)
    this.#next()
  }

  #settle(answer: DoorAnswer): void {
    const current = this.#current
    if (current === null) return
    if ('ask' in answer) {
      const refusal = this.#admit(current.job, answer.ask)
      const next: DoorRequest = { op: refusal === null ? 'unpack' : 'drop' }
      this.#worker?.postMessage(next)
      if (refusal === null) return
      answer = { ok: false, error: refusal }
    }
    clearTimeout(current.timer)
    this.#current = null
    if (this.#queue.length === 0) this.#worker?.unref()
    if (answer.ok) current.job.resolve(answer.value)
    else current.job.reject(new Refusal(answer.error.code, answer.error.message, answer.error.hint))
    this.#next()
  }

  #admit(job: Pending, signed: Signed): Refusal | null {
    try {
      return job.admit(signed)
    } catch (cause) {
      return new Refusal('internal', 'policy could not be asked', undefined, { cause })
    }
  }

  #fail(refusal: Refusal): void {
    const current = this.#current
    if (current === null) return
    clearTimeout(current.timer)
    this.#current = null
    current.job.reject(refusal)
  }
}
