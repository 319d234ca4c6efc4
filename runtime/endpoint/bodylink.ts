/**
 * The endpoint's end of the socket pair to the body: requests and streams, multiplexed by id. Invariant: at most one line
 * of {@link IPC_MAX_LINE} is buffered, and when the link closes every request fails (test/runtime/endpoint/app.test.ts).
 */
import type { Duplex } from 'node:stream'
import { REFUSAL_CODES, Refusal, type RefusalCode } from '../../deploy/shared/errors.ts'
import { LineSplitter } from '../../deploy/shared/linesplitter.ts'
import { type BodyMessage, EndpointMessage, IPC_MAX_LINE } from '../ipc.ts'

type WithoutId<T> = T extends unknown ? Omit<T, 'id'> : never
export type BodyRequest = WithoutId<Exclude<EndpointMessage, { op: 'cancel' }>>
export type EndpointConfig = Extract<BodyMessage, { op: 'config' }>

interface Pending {
  item: (item: unknown) => void
  done: (value: unknown) => void
  fail: (error: Refusal) => void
}

/** Most requests that wait for the body at once. */
const MAX_PENDING = 256

export interface BodyLinkEvents {
  config: (config: EndpointConfig) => void
  /** The list of operators has changed. */
  operators: () => void
  /** A pairing window was opened or closed. */
  pairing: (open: boolean) => void
  /** The body is gone, or sent something outside the protocol. */
  closed: (reason: string) => void
}

export class BodyLink {
  readonly #pipe: Duplex
  readonly #events: BodyLinkEvents
  readonly #pending = new Map<number, Pending>()
  readonly #splitter = new LineSplitter()
  #next = 1
  #closed = false

  constructor(pipe: Duplex, events: BodyLinkEvents) {
    this.#pipe = pipe
    this.#events = events
    pipe.on('data', (chunk: Buffer) => this.#receive(chunk))
    pipe.on('error', () => {}) // `close` follows
    pipe.on('end', () => this.#close('the body closed the link'))
    pipe.on('close', () => this.#close('the link is gone'))
  }

  /** Sends a message that has no answer. */
  tell(message: BodyRequest): void {
    this.#write({ ...message, id: this.#next++ } as EndpointMessage)
  }

  /** Resolves to the value of `done`. Rejects with the body's Refusal, `body-away`, or `usage` for a message outside the protocol. */
  call(message: BodyRequest): Promise<unknown> {
    return this.stream(message, () => {})
  }

  /** As {@link call}, and passes each stream element to `item` before. Aborting cancels the stream in the body, and resolves. */
  stream(message: BodyRequest, item: (item: unknown) => void, signal?: AbortSignal): Promise<unknown> {
    if (this.#closed) return Promise.reject(away())
    if (this.#pending.size >= MAX_PENDING) {
      return Promise.reject(new Refusal('in-progress', `${MAX_PENDING} requests wait for the body`, 'try again'))
    }
    const id = this.#next++
    // The body ends an endpoint that sends a message outside the protocol; so its sender gets a 400 instead (HANDOVER 8.1).
    const parsed = EndpointMessage.safeParse({ ...message, id })
    if (!parsed.success) return Promise.reject(new Refusal('usage', problemOf(parsed.error)))
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return resolve(undefined)
      const cancel = () => {
        if (!this.#pending.delete(id)) return
        this.#write({ op: 'cancel', id })
        resolve(undefined)
      }
      const forget = () => {
        this.#pending.delete(id)
        signal?.removeEventListener('abort', cancel)
      }
      signal?.addEventListener('abort', cancel, { once: true })
      this.#pending.set(id, {
        item,
        done: (value) => {
          forget()
          resolve(value)
        },
        fail: (error) => {
          forget()
          reject(error)
        },
      })
      this.#write({ ...message, id } as EndpointMessage)
    })
  }

  #write(message: EndpointMessage): void {
    if (!this.#closed) this.#pipe.write(`${JSON.stringify(message)}\n`)
  }

  #receive(chunk: Buffer): void {
    for (const line of this.#splitter.push(chunk)) {
      if (this.#closed) return
      if (line.length > IPC_MAX_LINE || !this.#handle(line))
        return this.#close('the body sent a message outside the protocol')
    }
    if (this.#splitter.rest.length > IPC_MAX_LINE)
      this.#close(`the body sent a line of over ${IPC_MAX_LINE} characters`)
  }

  /** False when `line` is no {@link BodyMessage}. Messages of cancelled streams may still arrive, and are ignored. */
  #handle(line: string): boolean {
    const message = parse(line)
    if (!message) return false
    if (message.op === 'config') this.#events.config(message)
    else if (message.op === 'operators') this.#events.operators()
    else if (message.op === 'pairing') this.#events.pairing(message.open)
    else if (message.op === 'ping') this.tell({ op: 'pong' })
    else {
      const pending = this.#pending.get(message.id)
      if (message.op === 'item') pending?.item(message.item)
      else if (message.op === 'done') pending?.done(message.value)
      else pending?.fail(toRefusal(message.error))
    }
    return true
  }

  #close(reason: string): void {
    if (this.#closed) return
    this.#closed = true
    this.#pipe.destroy()
    for (const pending of [...this.#pending.values()]) pending.fail(away())
    this.#events.closed(reason)
  }
}

/** The first problem, after the path of its field. */
function problemOf({
  issues: [issue],
}: {
  issues: readonly { path: readonly PropertyKey[]; message: string }[]
}): string {
  return `${issue?.path.map(String).join('.') || 'request'}: ${issue?.message ?? 'not understood'}`.toLowerCase()
}

function away(): Refusal {
  return new Refusal('body-away', 'the body is away', 'medulla status')
}

function parse(line: string): BodyMessage | null {
  try {
    const message = JSON.parse(line) as BodyMessage
    const known = ['config', 'operators', 'pairing', 'ping'].includes(message.op)
    const answer = message.op === 'item' || message.op === 'done' || message.op === 'error'
    return known || (answer && Number.isSafeInteger(message.id)) ? message : null
  } catch {
    return null
  }
}

/** Codes are a closed set: an unknown one is a bug of the runtime. */
export function toRefusal(error: { code: string; message: string; hint?: string }): Refusal {
  const known = (REFUSAL_CODES as readonly string[]).includes(error.code)
  return new Refusal(known ? (error.code as RefusalCode) : 'internal', error.message, error.hint)
}
