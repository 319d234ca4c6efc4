/**
 * Opens bundles in a worker thread with bounded memory. Invariant: one bundle at a time, each within a deadline; a bundle
 * that exhausts the worker costs the worker, not the endpoint.
 */
import { Refusal } from '../../deploy/shared/errors.ts'
import { runtimeUrl } from '../places.ts'
import { BoundedWorker } from '../plumbing/boundedworker.ts'
import { toRefusal } from './bodylink.ts'

/** Both ways through the thread's message port. */
export interface OpenJob {
  bundle: Uint8Array<ArrayBuffer>
  operators: string[]
}
export type OpenResult = { inner: Uint8Array<ArrayBuffer>; digest: string; signer: string } | { error: { code: string; message: string; hint?: string } } // biome-ignore format: one type
export type Opened = Extract<OpenResult, { inner: Uint8Array }>

const OPEN_MS = 30_000
const LIMITS = { maxOldGenerationSizeMb: 192, maxYoungGenerationSizeMb: 32, stackSizeMb: 4 }

export class BundleOpener {
  readonly #worker: BoundedWorker<OpenResult>

  /** `identity` is the robot's age secret. The thread starts at once: a first push finds it warm. */
  constructor(identity: string, scale = 1) {
    this.#worker = new BoundedWorker({
      script: runtimeUrl('endpoint/opener-thread.js'),
      name: 'opener',
      workerData: { identity },
      limits: LIMITS,
      deadlineMs: OPEN_MS * scale,
      failed: () => new Refusal('bad-bundle', 'the bundle could not be opened within its limits of memory and time'),
    })
  }

  /** Takes `bundle` over (its memory moves to the thread). Throws Refusal. */
  open(bundle: Uint8Array<ArrayBuffer>, operators: string[]): Promise<Opened> {
    const job: OpenJob = { bundle, operators }
    const result = (message: OpenResult): Opened => {
      if ('error' in message) throw toRefusal(message.error)
      return message
    }
    return this.#worker.run(job, result, [bundle.buffer])
  }

  close(): Promise<void> {
    return this.#worker.close()
  }
}
