/**
 * Invariant: a job that exhausts its worker thread costs that job and that thread: every other job is answered
 * (test/runtime/plumbing/boundedworker.test.ts).
 *
 * One worker thread with a memory limit. It gets one job at a time, each with a deadline; further jobs wait in a queue.
 */
import { type ResourceLimits, type Transferable, Worker } from 'node:worker_threads'

/** Why a job got no answer. */
export type WorkerFailure =
  | { why: 'late' | 'memory' | 'closed' }
  /** an error that the worker did not catch, or a worker that could not start */
  | { why: 'error'; cause: Error }
  | { why: 'exit'; code: number }

export interface BoundedWorkerOptions {
  script: URL
  name: string
  workerData?: unknown
  limits: ResourceLimits
  /** For one job; the worker is ended when it takes longer. */
  deadlineMs: number
  /** What a job without an answer rejects with. */
  failed(failure: WorkerFailure): Error
}

/**
 * Called for each message of the worker during a job. The job goes on while this returns undefined; what it returns or
 * throws is the job's result. `post` sends the worker another message.
 */
export type OnMessage<Message, Result> = (message: Message, post: (message: unknown) => void) => Result | undefined

interface Job<Message> {
  request: unknown
  transfer: readonly Transferable[]
  onMessage: OnMessage<Message, unknown>
  resolve(result: unknown): void
  reject(error: unknown): void
}

export class BoundedWorker<Message> {
  readonly #options: BoundedWorkerOptions
  readonly #queue: Job<Message>[] = []
  #worker: Worker | null = null
  #current: { job: Job<Message>; timer: NodeJS.Timeout } | null = null
  #closed = false

  /** Starts the thread at once, so that the first job does not wait for it. */
  constructor(options: BoundedWorkerOptions) {
    this.#options = options
    this.#start()
  }

  run<Result>(
    request: unknown,
    onMessage: OnMessage<Message, Result>,
    transfer: readonly Transferable[] = [],
  ): Promise<Result> {
    if (this.#closed) return Promise.reject(this.#options.failed({ why: 'closed' }))
    return new Promise((resolve, reject) => {
      this.#queue.push({ request, transfer, onMessage, resolve: resolve as (result: unknown) => void, reject })
      this.#next()
    })
  }

  /** Rejects the running job and those in the queue. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true
    const worker = this.#worker
    this.#worker = null
    const jobs = this.#queue.splice(0)
    this.#settle()?.reject(this.#options.failed({ why: 'closed' }))
    for (const job of jobs) job.reject(this.#options.failed({ why: 'closed' }))
    await worker?.terminate()
  }

  #next(): void {
    if (this.#current !== null || this.#closed) return
    const job = this.#queue.shift()
    if (job === undefined) return
    const worker = this.#worker ?? this.#start()
    const timer = setTimeout(() => this.#replace(worker, { why: 'late' }), this.#options.deadlineMs)
    this.#current = { job, timer }
    worker.ref()
    try {
      worker.postMessage(job.request, job.transfer)
    } catch (error) {
      this.#settle()?.reject(error)
      this.#next()
    }
  }

  #start(): Worker {
    const { script, name, workerData, limits } = this.#options
    const worker = new Worker(script, { name, workerData, env: {}, resourceLimits: limits })
    worker.unref()
    worker.on('message', (message: Message) => {
      if (worker === this.#worker) this.#hear(worker, message)
    })
    worker.on('error', (cause: NodeJS.ErrnoException) => {
      const memory = cause.code === 'ERR_WORKER_OUT_OF_MEMORY'
      this.#replace(worker, memory ? { why: 'memory' } : { why: 'error', cause })
    })
    worker.on('exit', (code) => this.#replace(worker, { why: 'exit', code }))
    this.#worker = worker
    return worker
  }

  #hear(worker: Worker, message: Message): void {
    if (this.#current === null) return
    const { job } = this.#current
    try {
      const result = job.onMessage(message, (answer) => worker.postMessage(answer))
      if (result === undefined) return
      this.#settle()
      job.resolve(result)
    } catch (error) {
      this.#settle()
      job.reject(error)
    }
    this.#next()
  }

  /** The next job gets a new worker; no message of this one is read any more. */
  #replace(worker: Worker, failure: WorkerFailure): void {
    if (worker !== this.#worker) return
    this.#worker = null
    void worker.terminate()
    this.#settle()?.reject(this.#options.failed(failure))
    this.#next()
  }

  /** Ends the current job, which the caller resolves or rejects. */
  #settle(): Job<Message> | undefined {
    const current = this.#current
    if (current === null) return undefined
    clearTimeout(current.timer)
    this.#current = null
    this.#worker?.unref()
    return current.job
  }
}
