/**
 * The robot's half of SPAKE2 in a worker thread: on a slow Pi it takes some 10 ms, in which the body would handle no stop. The thread
 * is started for the first laptop in a window, and ends with the window.
 */
import { Refusal } from '../../../deploy/shared/errors.ts'
import { runtimeUrl } from '../../places.ts'
import { BoundedWorker } from '../../plumbing/boundedworker.ts'
import type { Responded, RespondTo } from './respond.ts'

const DEADLINE_MS = 10_000
const MAX_HEAP_MB = 32

export type ResponderAnswer = { ok: true; value: Responded } | { ok: false; message: string }

export class Responder {
  readonly #scale: number
  #worker: BoundedWorker<ResponderAnswer> | null = null

  /** `scale` is MEDULLA_TIME_SCALE. */
  constructor(scale: number) {
    this.#scale = scale
  }

  /** Starts the thread, so that a laptop which introduces itself finds it ready for its attempt. */
  prepare(): void {
    this.#worker ??= this.#start()
  }

  /** Throws Refusal `usage` for a share that is no point of the curve, and `internal`. */
  respond(request: RespondTo): Promise<Responded> {
    this.#worker ??= this.#start()
    return this.#worker.run(request, (answer: ResponderAnswer) => {
      if (answer.ok) return answer.value
      throw new Refusal('usage', answer.message, 'try again')
    })
  }

  /** Attempts that are being computed are refused. The next one starts another thread. */
  async close(): Promise<void> {
    const worker = this.#worker
    this.#worker = null
    await worker?.close()
  }

  #start(): BoundedWorker<ResponderAnswer> {
    return new BoundedWorker({
      script: runtimeUrl('body/pairing/codeworker.js'),
      name: 'pairing',
      limits: { maxOldGenerationSizeMb: MAX_HEAP_MB, maxYoungGenerationSizeMb: 8 },
      deadlineMs: DEADLINE_MS * this.#scale,
      failed: ({ why }) => new Refusal('internal', `the pairing failed on the robot (${why})`, 'try again'),
    })
  }
}
