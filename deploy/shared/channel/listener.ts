/**
 * The one TCP port. Invariant: a stranger gets the greeting, 404, or a closed connection, within a bounded time and number
 * of connections; only an established session reaches `session`.
 */
import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Greeting } from '../api.ts'
import { acceptSession, type Identity, type Who } from './accept.ts'
import { Admission, LIMITS, type Limits } from './admission.ts'
import { CHALLENGE_HEADER, CHALLENGE_LENGTH, HANDSHAKE_MS, MAX_HTTP_HEAD, TOKEN } from './handshake.ts'
import type { SecureSocket } from './socket.ts'
import type { KeyPair } from './x25519.ts'

export interface ListenerOptions {
  greeting: () => Greeting
  noise: KeyPair
  /** this robot's id */
  robot: string
  who: Who
  /** was this static key found good before? Answered from memory. */
  known: (noisePublic: Uint8Array) => boolean
  session: (socket: SecureSocket, identity: Identity) => void
  /** the reason, for the robot's log only */
  refused?: (reason: string, address: string | undefined) => void
  limits?: Partial<Limits>
  deadlineMs?: number
}

export interface Listener {
  /** call its listen(); close() ends sessions too */
  readonly server: Server
  readonly sessions: ReadonlySet<SecureSocket>
  /** connections that are not sessions yet */
  readonly handshakes: number
  close(): Promise<void>
}

export function createListener(options: ListenerOptions): Listener {
  const limits = { ...LIMITS, ...options.limits }
  const deadlineMs = options.deadlineMs ?? HANDSHAKE_MS
  const admission = new Admission<Duplex>(limits)
  const sessions = new Set<SecureSocket>()
  const all = new Set<Duplex>()
  const deadlines = new WeakMap<Duplex, NodeJS.Timeout>()
  const refuse = (raw: Duplex, reason: string) => {
    options.refused?.(reason, (raw as Partial<Socket>).remoteAddress)
    raw.destroy() // CHANNEL 3.7
  }

  const server = createServer({ maxHeaderSize: MAX_HTTP_HEAD, keepAliveTimeout: 1, noDelay: true })
  server.on('connection', (raw: Duplex) => {
    all.add(raw)
    const { admitted, evict } = admission.enter(raw)
    // CHANNEL 5.1: one deadline from accept to session, whatever the bytes that arrive
    deadlines.set(
      raw,
      setTimeout(() => refuse(raw, 'the opening took too long'), deadlineMs),
    )
    raw.on('close', () => {
      clearTimeout(deadlines.get(raw))
      all.delete(raw)
      admission.leave(raw)
    })
    if (evict) refuse(evict, 'too many connections: the oldest stranger left') // CHANNEL 5.2
    if (!admitted) refuse(raw, 'too many connections')
  })

  // CHANNEL 2.1
  const stranger = (request: IncomingMessage, response: ServerResponse) => {
    const greet = request.method === 'GET' && request.url === '/' && !request.headers['content-length']
    const body = greet ? JSON.stringify(options.greeting()) : ''
    response.writeHead(greet ? 200 : 404, {
      Connection: 'close',
      'Content-Length': Buffer.byteLength(body),
      ...(greet && { 'Content-Type': 'application/json' }),
    })
    response.end(body)
  }
  for (const event of ['request', 'checkContinue', 'checkExpectation'] as const) server.on(event, stranger)
  server.on('clientError', (_error, raw) => refuse(raw, 'not http')) // CHANNEL 2.2

  server.on('upgrade', (request: IncomingMessage, raw: Duplex, head: Buffer) => {
    raw.on('error', () => {}) // reported by its close
    const { method, url, headers } = request
    if (method !== 'GET' || url !== '/' || headers.upgrade?.toLowerCase() !== TOKEN) {
      raw.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n') // CHANNEL 2.1
      return
    }
    // CHANNEL 2.3: to everybody
    const challenge = randomBytes(CHALLENGE_LENGTH)
    const lines = [
      'HTTP/1.1 101 Switching Protocols',
      'Connection: Upgrade',
      `Upgrade: ${TOKEN}`,
      `${CHALLENGE_HEADER}: ${challenge.toString('base64')}`,
    ]
    raw.write(`${lines.join('\r\n')}\r\n\r\n`)
    acceptSession({
      raw,
      head,
      challenge,
      noise: options.noise,
      robot: options.robot,
      who: options.who,
      present: (key) => admission.present(raw, options.known(key)), // CHANNEL 5.3
      deadlineMs,
    }).then(
      ({ socket, identity }) => {
        const { admitted, evict } = admission.establish(raw, socket.peer?.fingerprint ?? '')
        if (!admitted) {
          socket.on('error', () => {}).destroy()
          return
        }
        if (evict !== undefined) refuse(evict, 'too many sessions: the oldest left') // CHANNEL 5.4, CHANNEL 5.5
        clearTimeout(deadlines.get(raw))
        sessions.add(socket)
        socket.on('close', () => sessions.delete(socket))
        options.session(socket, identity)
      },
      (error: Error) => refuse(raw, reason(error)),
    )
  })

  return {
    server,
    sessions,
    get handshakes() {
      return admission.handshakes
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        for (const socket of sessions) socket.destroy()
        for (const raw of all) raw.destroy()
      }),
  }
}

function reason(error: Error): string {
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : ''
  return error.message + cause
}
