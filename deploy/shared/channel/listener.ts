/**
 * The robot's TCP port. Invariant: a stranger gets the greeting, 404 or a closed connection, and holds a bounded number of
 * connections for a bounded time; only established sessions reach `session` (test/deploy/shared/channel/listener.test.ts).
 */
import { randomBytes } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Greeting } from '../api.ts'
import type { SignedCertificate } from '../cert.ts'
import { acceptSession, type Identity, type Who } from './accept.ts'
import { ADMISSION_LIMITS, Admission, type AdmissionLimits } from './admission.ts'
import { CHALLENGE_HEADER, CHALLENGE_LENGTH, formOf, HANDSHAKE_MS, MAX_HTTP_HEAD } from './handshake.ts'
import { acceptPairing, type PairingBody } from './pairaccept.ts'
import { PAIR_MS, pairFormOf } from './pairing.ts'
import type { SecureSocket } from './socket.ts'
import type { KeyPair } from './x25519.ts'

const TOO_MANY = 'too many connections: closed the oldest stranger'
const LAPTOP_TOKEN = /^medulla\/\d{1,9}(?:-psk)?$/
const LAPTOP_PAIR_TOKEN = /^medulla-pair\/\d{1,9}(?:-psk)?$/

export interface ListenerOptions {
  greeting: () => Greeting
  /** the robot's certificate, for laptops that know an earlier one (CHANNEL 2.6) */
  card?: SignedCertificate
  noise: KeyPair
  /** the pre-shared key: with it, no laptop without it gets a session (CHANNEL 3.10) */
  psk?: Uint8Array
  /** this robot's id */
  robot: string
  who: Who
  /** whether this static key was accepted before; must answer from memory, without I/O */
  known: (noisePublic: Uint8Array) => boolean
  session: (socket: SecureSocket, identity: Identity) => void
  /** Null while no pairing window is open: then a pairing is answered as any unknown request (CHANNEL 9.1). */
  pairing?: () => PairingBody | null
  /** A laptop was paired; `name` is that in its card. */
  paired?: (name: string, address: string | undefined) => void
  /** gets the reason of each refusal, for the robot's log only */
  refused?: (reason: string, address: string | undefined) => void
  limits?: Partial<AdmissionLimits>
  deadlineMs?: number
  /** of a pairing, from the upgrade on */
  pairingMs?: number
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
  const limits = { ...ADMISSION_LIMITS, ...options.limits }
  const deadlineMs = options.deadlineMs ?? HANDSHAKE_MS
  const form = formOf(options.psk)
  const pairForm = pairFormOf(options.psk)
  const admission = new Admission<Duplex>(limits)
  const sessions = new Set<SecureSocket>()
  const all = new Set<Duplex>()
  const deadlines = new WeakMap<Duplex, NodeJS.Timeout>()
  const refuse = (raw: Duplex, reason: string) => {
    options.refused?.(reason, (raw as Partial<Socket>).remoteAddress)
    raw.destroy() // without a reason, which would help strangers (CHANNEL 3.7)
  }
  /** A refusal of the body is on its way to the laptop, which closes; the deadline of the connection goes on (CHANNEL 5.1). */
  const refusePairing = (raw: Duplex, error: Error) => {
    if (!raw.writableEnded) return refuse(raw, reason(error))
    options.refused?.(error.message, (raw as Partial<Socket>).remoteAddress)
  }
  /** Why a laptop's token is refused, for the log (CHANNEL 2.5); null for a token that is none of ours. */
  const misfit = (token: string): string | null => {
    if (LAPTOP_TOKEN.test(token)) return `a laptop speaks ${token}, this robot ${form.token}`
    if (token === pairForm.token) return 'a laptop asks to pair, and no pairing window is open'
    return LAPTOP_PAIR_TOKEN.test(token) ? `a laptop pairs by ${token}, this robot by ${pairForm.token}` : null
  }

  const server = createServer({ maxHeaderSize: MAX_HTTP_HEAD, keepAliveTimeout: 1, noDelay: true })
  server.on('connection', (raw: Duplex) => {
    all.add(raw)
    const evict = admission.enter(raw, (raw as Partial<Socket>).remoteAddress)
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
    if (evict !== undefined) refuse(evict, TOO_MANY) // idle strangers keep nobody out (CHANNEL 5.2)
  })

  const shown = (path: string | undefined): object | undefined => {
    if (path === '/') return options.greeting()
    return path === '/card' ? options.card : undefined
  }
  // without a session: the greeting for `GET /`, the certificate for `GET /card`, 404 for everything else (CHANNEL 2.1, CHANNEL 2.6)
  const stranger = (request: IncomingMessage, response: ServerResponse) => {
    const isPlain = request.method === 'GET' && !request.headers['content-length']
    const answer = isPlain ? shown(request.url) : undefined
    const body = answer === undefined ? '' : JSON.stringify(answer)
    response.writeHead(answer === undefined ? 404 : 200, {
      Connection: 'close',
      'Content-Length': Buffer.byteLength(body),
      ...(answer !== undefined && { 'Content-Type': 'application/json' }),
    })
    response.end(body)
  }
  for (const event of ['request', 'checkContinue', 'checkExpectation'] as const) server.on(event, stranger)
  server.on('clientError', (_error, raw) => refuse(raw, 'not http')) // also a head that is too long (CHANNEL 2.2)

  const presented = (raw: Duplex, known: boolean): boolean => {
    const { admitted, evict } = admission.present(raw, known)
    if (evict !== undefined) refuse(evict, TOO_MANY)
    return admitted
  }
  server.on('upgrade', (request: IncomingMessage, raw: Duplex, head: Buffer) => {
    raw.on('error', () => {}) // its 'close' event reports the loss
    const { method, url, headers } = request
    const token = headers.upgrade?.toLowerCase()
    const pairing = token === pairForm.token ? (options.pairing?.() ?? null) : null
    if (method !== 'GET' || url !== '/' || (token !== form.token && pairing === null)) {
      const why = token === undefined ? null : misfit(token)
      if (why !== null) options.refused?.(why, (raw as Partial<Socket>).remoteAddress)
      raw.end('HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n') // as any other request without a session (CHANNEL 2.1)
      return
    }
    const other = admission.upgrade(raw)
    if (other !== undefined) refuse(other, TOO_MANY)
    // everybody gets the answer 101, so that it shows nothing about the peer (CHANNEL 2.3)
    const challenge = randomBytes(CHALLENGE_LENGTH)
    const lines = [
      'HTTP/1.1 101 Switching Protocols',
      'Connection: Upgrade',
      `Upgrade: ${token}`,
      `${CHALLENGE_HEADER}: ${challenge.toString('base64')}`,
    ]
    raw.write(`${lines.join('\r\n')}\r\n\r\n`)
    if (pairing !== null) {
      clearTimeout(deadlines.get(raw))
      deadlines.set(
        raw,
        setTimeout(() => refuse(raw, 'the pairing took too long'), options.pairingMs ?? PAIR_MS),
      )
      const present = () => presented(raw, false)
      acceptPairing({ raw, head, challenge, noise: options.noise, form: pairForm, body: pairing, present }).then(
        (name) => options.paired?.(name, (raw as Partial<Socket>).remoteAddress),
        (error: Error) => refusePairing(raw, error),
      )
      return
    }
    acceptSession({
      raw,
      head,
      challenge,
      noise: options.noise,
      form,
      robot: options.robot,
      who: options.who,
      present: (key) => presented(raw, options.known(key)), // known keys have reserved places (CHANNEL 5.3)
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
