/**
 * Serves HTTP/1.1 of a session with an http.Server that does not listen. Node's own deadlines do not run on such a server.
 * Invariant: a session with an incomplete head, without requests, or with an answer that is not read ends in time (CHANNEL 6.3;
 * test/channel/http.test.ts).
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { SecureSocket } from './socket.ts'

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

/** The deadlines of CHANNEL 6.3. */
export const SERVE_DEADLINES: Readonly<ServeDeadlines> = {
  headMs: 10_000,
  bodyMs: 30_000,
  dumpMs: 10_000,
  idleMs: 120_000,
  stuckMs: 60_000,
}

/** Options for the server: heads inside a session are bounded, too (CHANNEL 6.2). */
export const SERVE_OPTIONS = { maxHeaderSize: 16_384, keepAliveTimeout: SERVE_DEADLINES.idleMs } as const

const starts = new WeakMap<SecureSocket, bigint>()

/** process.hrtime at the first byte of the request that this session is serving. */
export function requestStart(socket: SecureSocket): bigint {
  return starts.get(socket) ?? process.hrtime.bigint()
}

/**
 * Keeps the deadlines of all sessions of {@link serveSession}. Call it once for a server, after adding its `upgrade`
 * listener if it has one.
 */
export function watchRequests(server: Server): void {
  server.prependListener('request', (request: IncomingMessage, response: ServerResponse) => {
    watches.get(request.socket as unknown as SecureSocket)?.begin(request, response)
  })
  server.on('clientError', (_error, raw) => raw.destroy())
  if (server.listenerCount('upgrade') === 0) return // a listener of ours would make node accept every upgrade
  server.prependListener('upgrade', (_request: IncomingMessage, raw) => {
    watches.get(raw as unknown as SecureSocket)?.release()
  })
}

export function serveSession(server: Server, socket: SecureSocket, deadlines: ServeDeadlines = SERVE_DEADLINES): void {
  watches.set(socket, new Watch(socket, deadlines))
  socket.setNoDelay(true).setKeepAlive(true, 15_000)
  server.emit('connection', socket)
}

const watches = new WeakMap<SecureSocket, Watch>()

/** Requests of one session that may wait for their answers (CHANNEL 6.4). */
const MAX_UNANSWERED = 4

class Watch {
  readonly #socket: SecureSocket
  readonly #deadlines: ServeDeadlines
  #timer: NodeJS.Timeout | undefined
  #unanswered = 0
  #inHead = false

  constructor(socket: SecureSocket, deadlines: ServeDeadlines) {
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

  /** Ends a session whose request body does not arrive, or whose answer is not read. A long answer may pause. */
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
