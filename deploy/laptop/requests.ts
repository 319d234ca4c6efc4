/**
 * Requests to a robot over the streams of one session. Invariant: only whole answers and whole lines are returned; a session that ends
 * early is an error (test/deploy/shared/channel/http.test.ts).
 */
import { Agent, type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { ErrorBody } from '../shared/api.ts'
import type { SecureSocket } from '../shared/channel/socket.ts'
import { LAPTOP_MUX, Mux } from '../shared/channel/yamux.ts'
import { REFUSAL_CODES, Refusal, type RefusalCode } from '../shared/errors.ts'
import { LineSplitter } from '../shared/linesplitter.ts'

const MAX_ERROR = 64 * 1024
const MAX_LINE = 1024 * 1024
/** As many as the robot takes (CHANNEL 8.3). */
const MAX_STREAMS = LAPTOP_MUX.streams

/** All methods throw Refusal: the robot's code, or `unreachable` when the session is lost. */
export class Requests {
  readonly #robot: string
  readonly #agent: StreamAgent
  readonly #open: () => Promise<SecureSocket>
  #running = 0
  readonly #queue: (() => void)[] = []

  /**
   * `robot` is a name for errors, `first` an open session; `open` replaces a lost one. Requests that run at the same time have
   * a stream each.
   */
  constructor(robot: string, first: SecureSocket, open: () => Promise<SecureSocket>) {
    this.#robot = robot
    this.#open = open
    this.#agent = new StreamAgent(open, first)
  }

  /**
   * A stop. While other requests run it has a session of its own, because what they sent may wait in the kernel for a slow network
   * (CHANNEL 8.9).
   */
  async *stop<T>(path: string): AsyncGenerator<T, void> {
    const isAlone = this.#running === 0
    // where the robot takes no further session, the stop goes through this one
    const own = isAlone
      ? this
      : await this.#open().then(
          (first) => new Requests(this.#robot, first, this.#open),
          () => this,
        )
    try {
      yield* own.lines<T>('POST', path, undefined, new Uint8Array(0))
    } finally {
      if (own !== this) own.close()
    }
  }

  /** Closes the session; requests that still run fail. */
  close(): void {
    this.#agent.destroy()
  }

  /** A stream of the session: a connection to the HTTP server of the robot (CHANNEL 6.8). It counts as a request while it is open. */
  async stream(): Promise<Duplex> {
    await this.#beginRequest()
    try {
      const stream = await this.#agent.open()
      return stream.once('close', () => this.#endRequest())
    } catch (error) {
      this.#endRequest()
      throw this.#lost(error)
    }
  }

  /** A stream that the robot has upgraded to another protocol. It counts as a request while it is open. */
  async upgrade(path: string, token: string, signal: AbortSignal): Promise<Duplex> {
    await this.#beginRequest()
    const headers = { Connection: 'Upgrade', Upgrade: token }
    const answer = await new Promise<{ stream: Duplex } | { refused: IncomingMessage }>((resolve, reject) => {
      const request = httpRequest({ agent: this.#agent, host: this.#robot, path, headers, signal })
      request.once('upgrade', (_response, stream, head) => {
        if (head.length > 0) stream.unshift(head)
        resolve({ stream })
      })
      request
        .once('response', (refused) => resolve({ refused }))
        .on('error', reject)
        .end()
    }).catch((error) => {
      this.#endRequest()
      throw this.#lost(error)
    })
    if ('stream' in answer) return answer.stream.once('close', () => this.#endRequest())
    answer.refused.once('close', () => this.#endRequest())
    throw refusal(answer.refused.statusCode, await this.#text(answer.refused, MAX_ERROR))
  }

  /** The whole answer as JSON, of at most `max` bytes. */
  async json<T>(method: string, path: string, max: number, body?: Uint8Array): Promise<T> {
    return JSON.parse(await this.#text(await this.#send(method, path, body), max)) as T
  }

  /** The answer as values, one a line. An abort by `signal` ends it without an error. */
  async *lines<T>(
    method: string,
    path: string,
    signal?: AbortSignal,
    body?: Uint8Array,
    headers: Readonly<Record<string, string>> = {},
  ): AsyncGenerator<T, void> {
    const response = await this.#send(method, path, body, signal, headers)
    const splitter = new LineSplitter()
    try {
      response.setEncoding('utf8')
      for await (const chunk of response as AsyncIterable<string>) {
        const lines = splitter.push(chunk)
        if (splitter.rest.length > MAX_LINE)
          throw new Refusal('internal', `the robot sent a line of over ${MAX_LINE} characters`)
        for (const line of lines) if (line) yield JSON.parse(line) as T
      }
      if (splitter.rest) throw new Error('the answer ends within a line')
    } catch (error) {
      if (!signal?.aborted) throw this.#lost(error)
    } finally {
      if (!response.complete) response.destroy()
    }
  }

  /** Sends a request. Resolves with the answer once its status is 200; throws the robot's refusal otherwise. */
  async #send(
    method: string,
    path: string,
    body?: Uint8Array,
    signal?: AbortSignal,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<IncomingMessage> {
    await this.#beginRequest()
    let request: ClientRequest | undefined
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      request = httpRequest({
        agent: this.#agent,
        host: this.#robot,
        method,
        path,
        headers: { ...headers, ...(body && { 'Content-Length': body.length }) },
        ...(signal && { signal }),
      })
      request.once('response', resolve)
      request.on('error', reject)
      request.end(body)
    }).catch((error) => {
      this.#endRequest()
      if (signal?.aborted) throw new Refusal('interrupted', 'interrupted', undefined, { cause: error })
      throw this.#lost(error)
    })
    response.once('close', () => this.#endRequest())
    if (response.statusCode === 200) return response
    // A refusal may come in the middle of an upload. The stream is reset after it, and not used again: the robot may end it too.
    const text = await this.#text(response, MAX_ERROR)
    request?.destroy()
    throw refusal(response.statusCode, text)
  }

  /**
   * Waits for one of MAX_STREAMS places. http.Agent does not count connections that are still being opened, so this counts
   * requests.
   */
  async #beginRequest(): Promise<void> {
    if (this.#running < MAX_STREAMS) this.#running++
    else await new Promise<void>((resolve) => this.#queue.push(resolve))
  }

  #endRequest(): void {
    const next = this.#queue.shift()
    if (next) next()
    else this.#running--
  }

  async #text(response: IncomingMessage, max: number): Promise<string> {
    const parts: Buffer[] = []
    let length = 0
    try {
      for await (const part of response as AsyncIterable<Buffer>) {
        length += part.length
        if (length > max) throw new Refusal('internal', `the robot answered more than ${max} bytes`)
        parts.push(part)
      }
    } catch (error) {
      throw this.#lost(error)
    }
    return Buffer.concat(parts).toString()
  }

  #lost(cause: unknown): Refusal {
    if (cause instanceof Refusal) return cause
    const message = cause instanceof Error ? cause.message : String(cause)
    return new Refusal('unreachable', `lost the session with ${this.#robot}: ${message}`, 'medulla status', {
      cause,
    })
  }
}

function refusal(status: number | undefined, text: string): Refusal {
  try {
    const { code, message, hint } = (JSON.parse(text) as ErrorBody).error
    if (typeof message === 'string' && (REFUSAL_CODES as readonly string[]).includes(code)) {
      return new Refusal(code as RefusalCode, message, typeof hint === 'string' ? hint : undefined)
    }
  } catch {
    // not the JSON of a robot: an internal error below
  }
  return new Refusal('internal', `the robot answered ${status}`)
}

/** Opens a stream for each request that runs, all in one session; a lost session is replaced for the next request. */
class StreamAgent extends Agent {
  readonly #open: () => Promise<SecureSocket>
  #mux: Mux | undefined
  #opening: Promise<Mux> | undefined
  #closed = false

  constructor(open: () => Promise<SecureSocket>, first: SecureSocket) {
    super({ keepAlive: true, maxSockets: MAX_STREAMS, maxFreeSockets: MAX_STREAMS })
    this.#open = open
    this.#use(first)
  }

  override createConnection(_: unknown, callback?: (error: Error | null, stream: Duplex) => void): undefined {
    this.open().then(
      (stream) => callback?.(null, stream),
      (error) => callback?.(error, undefined as unknown as Duplex),
    )
  }

  async open(): Promise<Duplex> {
    return (await this.#session()).open()
  }

  override destroy(): void {
    this.#closed = true
    super.destroy()
    this.#mux?.close()
  }

  async #session(): Promise<Mux> {
    if (this.#mux?.usable) return this.#mux
    this.#opening ??= this.#open()
      .then((session) => this.#use(session))
      .finally(() => {
        this.#opening = undefined
      })
    return this.#opening
  }

  #use(session: SecureSocket): Mux {
    session.unref() // without a stream, a session keeps no process alive
    const mux = new Mux({ session, initiator: true })
    this.#mux = mux
    if (this.#closed) mux.close()
    return mux
  }
}
