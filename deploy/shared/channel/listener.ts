/**
 * The robot's TCP port. Invariant: a stranger gets the greeting, 404 or a closed connection, and holds a bounded number of
 * connections for a bounded time; only established sessions reach `session` (test/channel/listener.test.ts).
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
  /** whether this static key was accepted before; must answer from memory, without I/O */
  known: (noisePublic: Uint8Array) => boolean
  session: (socket: SecureSocket, identity: Identity) => void
  /** gets the reason of each refusal, for the robot's log only */
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
    raw.destroy() // without a reason, which would help strangers (CHANNEL 3.7)
  }

  const server = createServer({ maxHeaderSize: MAX_HTTP_HEAD, keepAliveTimeout: 1, noDelay: true })
  server.on('connection', (raw: Duplex) => {
    all.add(raw)
    const { admitted, evict } = admission.enter(raw)
    // one deadline from accept to session, which no arriving bytes extend (CHANNEL 5.1)
    deadlines.set(
      raw,
      setTimeout(() => refuse(raw, 'the handshake took too long'), deadlineMs),
    )
    raw.on('close', () => {
      clearTimeout(deadlines.get(raw))
      all.delete(raw)
      admission.leave(raw)
    })
    if (evict) refuse(evict, 'too many connections: closed the oldest stranger') // idle strangers keep nobody out (CHANNEL 5.2)
    if (!admitted) refuse(raw, 'too many connections')
  })

  // without a session: the greeting for `GET /`, 404 for everything else (CHANNEL 2.1)
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
  server.on('clientError', (_error, raw) => refuse(raw, 'not http')) // also a head that is too long (CHANNEL 2.2)

  server.on('upgrade', (request: IncomingMessage, raw: Duplex, head: Buffer) => {
    raw.on('error', () => {}) // its 'close' event reports the loss
    const { method, url, headers } = request
    if (method !== 'GET' || url !== '/' || headers.upgrade?.toLowerCase() !== TOKEN) {
      raw.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n') // as any other request without a session (CHANNEL 2.1)
      return
    }
    // everybody gets the answer 101, so that it shows nothing about the peer (CHANNEL 2.3)
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
      present: (key) => admission.present(raw, options.known(key)), // known keys have reserved places (CHANNEL 5.3)
      deadlineMs,
    }).then(
      ({ socket, identity }) => {
        const { admitted, evict } = admission.establish(raw, socket.peer?.fingerprint ?? '')
        if (!admitted) {
          socket.on('error', () => {}).destroy()
          return
        }
        if (evict !== undefined) refuse(evict, 'too many sessions: closed the oldest') // never the new one (CHANNEL 5.4, CHANNEL 5.5)
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
