/**
 * The endpoint process: network on one side, the body's socket pair (fd 3) on the other. Invariant: it holds its Noise and
 * age keys and nothing else (no hardware, no list of operators), and it does not outlive the body.
 */
import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { createServer } from 'node:http'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { PROTOCOL } from '../../deploy/api.ts'
import {
  createListener,
  HANDSHAKE_MS,
  keyPair,
  SERVE_DEADLINES,
  SERVE_OPTIONS,
  type ServeDeadlines,
  serveSession,
  watchRequests,
} from '../../deploy/channel/index.ts'
import { createLog } from '../log.ts'
import { createApp } from './app.ts'
import { BodyLink, type Config } from './bodylink.ts'
import { strangerLog } from './log.ts'
import { BundleOpener } from './opener.ts'
import { Operators } from './operators.ts'
import { Door } from './push.ts'
import { Sessions } from './sessions.ts'
import { Staging } from './staging.ts'

const BODY_FD = 3
const URGENT_FD = 4
const log = createLog('endpoint')
const scale = Number(process.env.MEDULLA_TIME_SCALE) || 1

const link = new BodyLink(new Socket({ fd: BODY_FD, readable: true, writable: true }), {
  config: (config) => {
    start(config).catch((error: unknown) => fail(error))
  },
  operators: () => sessions.recheck(),
  closed: (reason) => {
    log.info({ reason }, 'exit')
    process.exit(0)
  },
})
/** HANDOVER 8.8 */
const urgent = new BodyLink(new Socket({ fd: URGENT_FD, readable: true, writable: true }), {
  config: () => {},
  operators: () => {},
  // the other link says so, too
  closed: () => {},
})
const operators = new Operators(link)
const sessions = new Sessions(operators)
process.on('SIGINT', () => {}) // Ctrl-C in a terminal reaches the whole group: the body decides
let started = false

async function start(config: Config): Promise<void> {
  if (started) throw new Error('a second config')
  started = true
  const noise = keyPair(Buffer.from(await readSecret(config.home, 'noise.key', /^[0-9a-f]{64}$/), 'hex'))
  const identity = await readSecret(config.home, 'age.key', /^AGE-SECRET-KEY-1[0-9A-Z]{50,80}$/)
  const staging = new Staging(config.staging)
  await staging.empty()
  const opener = new BundleOpener(identity, scale)
  const door = new Door({ link, operators, opener, staging, scale })
  const failed = (error: unknown, path: string) => log.error({ err: error, path }, 'request failed')
  const inner = createServer(
    { ...SERVE_OPTIONS, keepAliveTimeout: SERVE_OPTIONS.keepAliveTimeout * scale },
    createApp({ link, urgent, door, sessions, failed }),
  )
  watchRequests(inner)
  const deadlines = scaled(SERVE_DEADLINES)
  const { name, robot: id, version } = config
  const listener = createListener({
    greeting: () => ({ name, id, version, protocol: PROTOCOL }),
    noise,
    robot: id,
    who: (key, card) => operators.who(key, card),
    known: (key) => operators.known(key),
    session: (socket, identity) => {
      sessions.add(socket, identity)
      log.info({ operator: socket.peer?.name, role: socket.peer?.role, address: socket.remoteAddress }, 'session')
      serveSession(inner, socket, deadlines)
    },
    refused: strangerLog(log),
    deadlineMs: HANDSHAKE_MS * scale,
  })
  listener.server.on('error', fail)
  listener.server.listen({ host: config.host, port: config.port }, () => {
    const address = listener.server.address()
    const port = typeof address === 'object' && address ? address.port : config.port
    log.info({ host: config.host, port }, 'listening')
    link.tell({ op: 'listening', port })
  })
}

/** The body is told why, then the process ends. */
function fail(error: unknown): void {
  const { code, message } = error as NodeJS.ErrnoException
  log.error({ err: error }, 'cannot serve')
  link.tell({
    op: 'failed',
    code: code === 'EADDRINUSE' ? 'port-in-use' : 'internal',
    message: String(message).slice(0, 500),
  })
  setTimeout(() => process.exit(1), 50) // the line above is on its way
}

function scaled(deadlines: ServeDeadlines): ServeDeadlines {
  return Object.fromEntries(
    Object.entries(deadlines).map(([name, ms]) => [name, ms * scale]),
  ) as unknown as ServeDeadlines
}

/** One line of a file that only its owner may read; a symbolic link is not followed. */
async function readSecret(home: string, name: string, shape: RegExp): Promise<string> {
  const file = await open(join(home, 'endpoint', name), constants.O_RDONLY | constants.O_NOFOLLOW)
  try {
    const { mode } = await file.stat()
    if (mode & 0o077) throw new Error(`${name}: expected mode 0600, got 0${(mode & 0o777).toString(8)}`)
    const lines = (await file.readFile('utf8')).split('\n').map((line) => line.trim())
    const secret = lines.find((line) => line !== '' && !line.startsWith('#'))
    if (!secret || !shape.test(secret)) throw new Error(`${name}: expected one line of a key`)
    return secret
  } finally {
    await file.close()
  }
}
