/**
 * Opens bundles in a worker thread, one at a time. Invariant: a bundle that exhausts memory or time ends the worker, not the
 * endpoint (test/runtime/endpoint/opener.test.ts).
 */
import { Refusal } from '../../deploy/shared/errors.ts'
import { runtimeUrl } from '../places.ts'
import { BoundedWorker } from '../plumbing/boundedworker.ts'
import { toRefusal } from './bodylink.ts'

/** Message to the thread; it answers with an OpenResult. */
export interface OpenJob {
  bundle: Uint8Array<ArrayBuffer>
  operators: string[]
}
export type OpenResult = { inner: Uint8Array<ArrayBuffer>; digest: string; signer: string } | { error: { code: string; message: string; hint?: string } } // biome-ignore format: one type
export type Unsealed = Extract<OpenResult, { inner: Uint8Array }>

const OPEN_MS = 30_000
const LIMITS = { maxOldGenerationSizeMb: 192, maxYoungGenerationSizeMb: 32, stackSizeMb: 4 }

export class BundleOpener {
  readonly #worker: BoundedWorker<OpenResult>

  /** `identities` are the robot's age secrets, the present one first. The thread starts at once, so that the first push does not wait for it. */
  constructor(identities: readonly string[], scale = 1) {
    this.#worker = new BoundedWorker({
      script: runtimeUrl('endpoint/opener-thread.js'),
      name: 'opener',
      workerData: { identities },
      limits: LIMITS,
      deadlineMs: OPEN_MS * scale,
      failed: () => new Refusal('bad-bundle', 'the bundle could not be opened within its limits of memory and time'),
    })
  }

  /** Throws Refusal. `bundle` cannot be used afterwards: its memory moves to the thread. */
  open(bundle: Uint8Array<ArrayBuffer>, operators: string[]): Promise<Unsealed> {
    const job: OpenJob = { bundle, operators }
    const result = (message: OpenResult): Unsealed => {
      if ('error' in message) throw toRefusal(message.error)
      return message
    }
    return this.#worker.run(job, result, [bundle.buffer])
  }

  close(): Promise<void> {
    return this.#worker.close()
  }
}
