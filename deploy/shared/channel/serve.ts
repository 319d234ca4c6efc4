/**
 * Serves HTTP/1.1 of a session's streams with an http.Server that does not listen. Node's own deadlines do not run on such a server.
 * Invariant: a stream with an incomplete head, without requests, or with an answer that is not read ends in time (CHANNEL 6.3;
 * test/deploy/shared/channel/http.test.ts).
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { SecureSocket } from './socket.ts'
import { Mux, ROBOT_MUX } from './yamux.ts'
import type { YamuxStream } from './yamuxstream.ts'

export interface ServeDeadlines {
  /** from the first byte of a request to the end of its head */
  headMs: number
  /** without a byte of a request's body */
  bodyMs: number
  /** from the end of an answer to the end of a body that was answered early */
  dumpMs: number
  /** without a request */
  idleMs: number
  /** without a byte taken of an answer */
  stuckMs: number
}

/** How long a stream, or a session without streams, may wait for its peer before it ends (CHANNEL 6.3). */
export const SERVE_DEADLINES: Readonly<ServeDeadlines> = {
  headMs: 10_000,
  bodyMs: 30_000,
  dumpMs: 10_000,
  idleMs: 120_000,
  stuckMs: 60_000,
}

/** Options for the server: heads inside a stream are bounded, too (CHANNEL 6.2). */
export const SERVE_OPTIONS = { maxHeaderSize: 16_384, keepAliveTimeout: SERVE_DEADLINES.idleMs } as const

const starts = new WeakMap<YamuxStream, bigint>()

/** process.hrtime at the first byte of the request that this stream is serving. */
export function requestStart(socket: YamuxStream): bigint {
  return starts.get(socket) ?? process.hrtime.bigint()
}

/**
 * Keeps the deadlines of all streams of {@link serveSession}. Call it once for a server, after adding its `upgrade`
 * listener if it has one.
 */
export function watchRequests(server: Server): void {
  server.prependListener('request', (request: IncomingMessage, response: ServerResponse) => {
    watches.get(request.socket as unknown as YamuxStream)?.begin(request, response)
  })
  server.on('clientError', (_error, raw) => raw.destroy())
  if (server.listenerCount('upgrade') === 0) return // a listener of ours would make node accept every upgrade
  server.prependListener('upgrade', (_request: IncomingMessage, raw) => {
    watches.get(raw as unknown as YamuxStream)?.release()
  })
}

/** Serves the streams that the laptop opens in the session, each as a connection of `server` (CHANNEL 6.8). */
export function serveSession(server: Server, session: SecureSocket, deadlines: ServeDeadlines = SERVE_DEADLINES): void {
  let idle: NodeJS.Timeout | undefined
  const rest = () => {
    clearTimeout(idle)
    if (session.destroyed || mux.streams > 0) return
    idle = setTimeout(() => session.destroy(), deadlines.idleMs)
    idle.unref()
  }
  const mux = new Mux({
    session,
    initiator: false,
    limits: ROBOT_MUX,
    accept: (stream) => {
      clearTimeout(idle)
      stream.on('error', () => {}).on('close', rest) // a lost stream is seen by its close
      watches.set(stream, new Watch(stream, deadlines))
      server.emit('connection', stream)
    },
  })
  session
    .setNoDelay(true)
    .setKeepAlive(true, 15_000)
    .on('close', () => clearTimeout(idle))
  rest()
}

const watches = new WeakMap<YamuxStream, Watch>()

/** Requests of one stream that may wait for their answers (CHANNEL 6.4). */
const MAX_UNANSWERED = 4

class Watch {
  readonly #socket: YamuxStream
  readonly #deadlines: ServeDeadlines
  #timer: NodeJS.Timeout | undefined
  #unanswered = 0
  #inHead = false

  constructor(socket: YamuxStream, deadlines: ServeDeadlines) {
    this.#socket = socket
    this.#deadlines = deadlines
    this.#arm(deadlines.idleMs)
    socket.on('close', () => clearTimeout(this.#timer))
    socket.on('data', () => {
      if (this.#unanswered > 0 || this.#inHead) return
      this.#inHead = true
      starts.set(socket, process.hrtime.bigint())
      this.#arm(deadlines.headMs)
    })
  }

  begin(request: IncomingMessage, response: ServerResponse): void {
    this.#inHead = false
    if (++this.#unanswered > MAX_UNANSWERED) return this.#expire() // each waiting request takes memory (CHANNEL 6.4)
    let finished = false
    let settled = false
    const settle = () => {
      if (!finished || !request.complete || settled) return
      settled = true
      if (--this.#unanswered === 0) this.#arm(this.#deadlines.idleMs)
    }
    response.once('finish', () => {
      finished = true
      if (!request.complete) this.#arm(this.#deadlines.dumpMs)
      settle()
    })
    request.once('end', settle)
    this.#follow(request, -1)
  }

  /** Ends the deadlines: an upgraded stream has those of its own protocol. */
  release(): void {
    clearTimeout(this.#timer)
    this.#unanswered = 1
  }

  /** Ends a stream whose request body does not arrive, or whose answer is not read. A long answer may pause. */
  #follow(request: IncomingMessage, mark: number): void {
    const { bodyMs, stuckMs } = this.#deadlines
    const { bytesRead, bytesWritten, writableLength } = this.#socket
    const moved = bytesRead + bytesWritten
    if ((!request.complete || writableLength > 0) && moved === mark) return this.#expire()
    this.#arm(request.complete ? stuckMs : bodyMs, () => this.#follow(request, moved))
  }

  #arm(ms: number, action: () => void = () => this.#expire()): void {
    clearTimeout(this.#timer)
    if (this.#socket.destroyed) return
    this.#timer = setTimeout(action, ms)
    this.#timer.unref()
  }

  #expire(): void {
    this.#socket.destroy()
  }
}
