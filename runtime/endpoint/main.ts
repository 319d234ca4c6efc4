/**
 * The endpoint process: network on one side, the body's socket pairs on the other. Invariant: the endpoint holds its Noise and
 * age keys and nothing else (no hardware, no file of the home, no list of operators), it is confined before it accepts a
 * connection, and it does not outlive the body (test/e2e/endpoint.test.ts).
 */
import { createServer } from 'node:http'
import { Socket } from 'node:net'
import { PROTOCOL } from '../../deploy/shared/api.ts'
import {
  createListener,
  HANDSHAKE_MS,
  keyPair,
  PAIR_MS,
  SERVE_DEADLINES,
  SERVE_OPTIONS,
  type ServeDeadlines,
  serveSession,
  watchRequests,
} from '../../deploy/shared/channel/index.ts'
import { timeScale } from '../../deploy/shared/timescale.ts'
import { ENDPOINT_FD, STAGED_FILES } from '../ipc.ts'
import { createLog } from '../log.ts'
import { confineServer } from '../sdk/confined.ts'
import { createApp } from './app.ts'
import { BodyLink, type EndpointConfig } from './bodylink.ts'
import { readQuestions } from './discovery.ts'
import { strangerLog } from './log.ts'
import { answerUpgrade, MessageChannels } from './messages.ts'
import { BundleOpener } from './opener.ts'
import { OperatorCache } from './operators.ts'
import { PairingDesk } from './pairing.ts'
import { Uploads } from './push.ts'
import { Sessions } from './sessions.ts'
import { Staging } from './staging.ts'

const log = createLog('endpoint')
const scale = timeScale()

const link = new BodyLink(new Socket({ fd: ENDPOINT_FD.body, readable: true, writable: true }), {
  config: (config) => {
    try {
      start(config)
    } catch (error) {
      fail(error)
    }
  },
  operators: () => {
    sessions.recheck()
    void sessions.current().then(() => channels?.recheck())
  },
  pairing: (open) => {
    isPairing = open
  },
  closed: (reason) => {
    log.info({ reason }, 'exit')
    process.exit(0)
  },
})
/** The link for stops (HANDOVER 8.8). */
const urgent = new BodyLink(new Socket({ fd: ENDPOINT_FD.urgent, readable: true, writable: true }), {
  config: () => {},
  operators: () => {},
  pairing: () => {},
  // `link` closes as well, and ends this process.
  closed: () => {},
})
const operators = new OperatorCache(link)
const sessions = new Sessions(operators)
process.on('SIGINT', () => {}) // Ctrl-C in a terminal reaches the whole group: the body decides
let started = false
let channels: MessageChannels | undefined
/** The body has said that a pairing window is open. */
let isPairing = false

function start(config: EndpointConfig): void {
  if (started) throw new Error('the body sent a second config')
  started = true
  confineServer(config.confine)
  const noise = keyPair(Buffer.from(config.keys.noise, 'hex'))
  const staging = new Staging(Array.from({ length: STAGED_FILES }, (_, index) => ENDPOINT_FD.firstStaged + index))
  const opener = new BundleOpener([config.keys.age, ...(config.keys.retired ?? [])], scale)
  const uploads = new Uploads({ link, operators, opener, staging, scale })
  channels = new MessageChannels(link, ENDPOINT_FD.channels)
  const failed = (error: unknown, path: string) => log.error({ err: error, path }, 'request failed')
  const app = createApp({ link, urgent, uploads, sessions, channels, failed })
  const inner = createServer({ ...SERVE_OPTIONS, keepAliveTimeout: SERVE_OPTIONS.keepAliveTimeout * scale }, app)
  inner.on('upgrade', (request, stream, head) => answerUpgrade(app, request, stream, head))
  watchRequests(inner)
  const deadlines = scaled(SERVE_DEADLINES)
  const { name, robot: id, version } = config
  const desk = new PairingDesk(link)
  const listener = createListener({
    greeting: () => ({ name, id, version, protocol: PROTOCOL }),
    card: config.card,
    noise,
    ...(config.keys.psk !== undefined && { psk: Buffer.from(config.keys.psk, 'hex') }),
    robot: id,
    who: (key, card) => operators.who(key, card),
    known: (key) => operators.known(key),
    session: (socket, identity) => {
      sessions.add(socket, identity)
      log.info({ operator: socket.peer?.name, role: socket.peer?.role, address: socket.remoteAddress }, 'session')
      serveSession(inner, socket, deadlines)
    },
    pairing: () => (isPairing ? desk : null),
    paired: (name, address) => log.info({ operator: name, address }, 'paired'),
    refused: strangerLog(log),
    deadlineMs: HANDSHAKE_MS * scale,
    pairingMs: PAIR_MS * scale,
  })
  listener.server.on('error', fail)
  listener.server.listen({ fd: ENDPOINT_FD.listener }, () => {
    log.info(listener.server.address(), 'listening')
    link.tell({ op: 'listening' })
    if (config.discovery) readQuestions(ENDPOINT_FD.discovery, () => link.tell({ op: 'asked' }))
  })
}

/** Tells the body why, then ends the process. */
function fail(error: unknown): void {
  log.error({ err: error }, 'cannot serve')
  const message = error instanceof Error ? error.message : String(error)
  link.tell({ op: 'failed', code: 'internal', message: message.slice(0, 500) })
  setTimeout(() => process.exit(1), 50) // time for the message to leave
}

function scaled(deadlines: ServeDeadlines): ServeDeadlines {
  return Object.fromEntries(
    Object.entries(deadlines).map(([name, ms]) => [name, ms * scale]),
  ) as unknown as ServeDeadlines
}
