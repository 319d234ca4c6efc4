/**
 * Opens bundles in a worker thread with bounded memory. Invariant: one bundle at a time, each within a deadline; a bundle
 * that exhausts the worker costs the worker, not the endpoint.
 */
import { Worker } from 'node:worker_threads'
import { Refusal } from '../../deploy/shared/errors.ts'
import { runtimeUrl } from '../places.ts'
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
  readonly #identity: string
  readonly #deadlineMs: number
  #worker: Worker | undefined
  #last: Promise<unknown> = Promise.resolve()

  /** `identity` is the robot's age secret. The thread starts at once: a first push finds it warm. */
  constructor(identity: string, scale = 1) {
    this.#identity = identity
    this.#deadlineMs = OPEN_MS * scale
    this.#worker = this.#start()
  }

  /** Takes `bundle` over (its memory moves to the thread). Throws Refusal. */
  open(bundle: Uint8Array<ArrayBuffer>, operators: string[]): Promise<Opened> {
    const mine = this.#last.then(() => this.#run({ bundle, operators }))
    this.#last = mine.catch(() => {})
    return mine
  }

  async close(): Promise<void> {
    await this.#worker?.terminate()
  }

  #start(): Worker {
    const worker = new Worker(runtimeUrl('endpoint/opener-thread.js'), {
      workerData: { identity: this.#identity },
      resourceLimits: LIMITS,
      env: {},
    })
    worker.on('error', () => {}) // a job that runs sees its exit
    worker.on('exit', () => {
      if (this.#worker === worker) this.#worker = undefined
    })
    worker.unref()
    return worker
  }

  #run(job: OpenJob): Promise<Opened> {
    const worker = this.#worker ?? this.#start()
    this.#worker = worker
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer)
        worker.off('message', onMessage).off('exit', onExit)
        worker.unref()
      }
      const onMessage = (result: OpenResult) => {
        settle()
        if ('error' in result) reject(toRefusal(result.error))
        else resolve(result)
      }
      const onExit = () => {
        settle()
        reject(new Refusal('bad-bundle', 'the bundle could not be opened within its limits of memory and time'))
      }
      const timer = setTimeout(() => void worker.terminate(), this.#deadlineMs)
      worker.ref()
      worker.on('message', onMessage).on('exit', onExit)
      worker.postMessage(job, [job.bundle.buffer])
    })
  }
}
