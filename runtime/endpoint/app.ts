/**
 * The Express app behind established sessions: the routes of deploy/shared/api.ts. Invariant: a request is answered only by a
 * route that names its role, and only if the session's operator has that role (test/runtime/endpoint/app.test.ts).
 */
import express, { type Express, type NextFunction, type Request, type RequestHandler, type Response } from 'express'
import {
  BUNDLE_PARTS,
  LOG_CURSOR,
  LOG_LEVELS,
  type LogLevel,
  type PeerRole,
  ROLE_RANK,
} from '../../deploy/shared/api.ts'
import { LIMITS } from '../../deploy/shared/bundle/limits.ts'
import { RUNTIME_PROGRAM } from '../../deploy/shared/bundle/runtimepackage.ts'
import { type Peer, YamuxStream } from '../../deploy/shared/channel/index.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { NAME_PATTERN } from '../../deploy/shared/names.ts'
import { HANDLE_NAME } from '../ipc.ts'
import type { BodyLink } from './bodylink.ts'
import { answerRefusal, type Call, parseOrder } from './call.ts'
import type { MessageChannels } from './messages.ts'
import { streamItems } from './ndjson.ts'
import type { Uploads } from './push.ts'
import type { Sessions } from './sessions.ts'

const MAX_BODY = 2 * LIMITS.order
const MAX_LINES = 10_000
const MAX_NAMES = 64

export interface AppParts {
  link: BodyLink
  /** The link for stops, which carries nothing else (HANDOVER 8.8). */
  urgent: BodyLink
  uploads: Uploads
  sessions: Pick<Sessions, 'current'>
  channels: Pick<MessageChannels, 'open'>
  failed: (error: unknown, path: string) => void
}

const roles = new WeakMap<object, PeerRole>()

/** The role that a handler of the router requires; undefined for a handler that was not made by {@link createApp}'s route(). */
export function roleOf(handler: object): PeerRole | undefined {
  return roles.get(handler)
}

export function createApp({ link, urgent, uploads, sessions, channels, failed }: AppParts): Express {
  const app = express()
  app.disable('x-powered-by').disable('etag').enable('case sensitive routing').enable('strict routing')

  /** The only way to make a handler: session, role and slot are checked before it runs. */
  const route = (role: PeerRole, handler: (call: Call) => Promise<void> | void): RequestHandler => {
    const checked: RequestHandler = async (request, response) => {
      await sessions.current()
      const peer = peerOf(request)
      const slot = request.params.slot === undefined ? '' : String(request.params.slot)
      if (slot && !NAME_PATTERN.test(slot))
        throw new Refusal('usage', `slot: expected a name like "main", got ${slot.length} characters`)
      if (!mayUse(peer.role, role)) {
        const refusal = new Refusal(
          'role',
          `expected role ${role}, ${peer.name} is ${peer.role}`,
          'ask an owner of the robot',
        )
        const { code, message } = refusal
        link.tell({ op: 'refused', slot: slot || 'all', pusher: peer.fingerprint, code, message })
        throw refusal
      }
      await handler({ request, response, peer, slot })
    }
    roles.set(checked, role)
    return checked
  }

  app.use((request, _response, next) => {
    peerOf(request) // throws without a session, before any route is matched
    next(request.method === 'HEAD' ? notFound() : undefined)
  })
  app.get(
    '/v1/status',
    route('observer', async ({ response }) => {
      response.json(await link.call({ op: 'status' }))
    }),
  )
  app.get(
    '/v1/board',
    route('observer', async ({ response }) => {
      response.json(await link.call({ op: 'board' }))
    }),
  )
  app.put(
    '/v1/slots/:slot/program',
    route('operator', (call) => uploads.push(call)),
  )
  app.put(
    '/v1/runtime',
    route('owner', (call) => uploads.push(call)),
  )
  app.get(
    '/v1/operators',
    route('operator', async ({ response }) => {
      response.json(await link.call({ op: 'operators' }))
    }),
  )
  app.get(
    '/v1/nonce',
    route('operator', async ({ response }) => {
      response.json(await link.call({ op: 'nonce' }))
    }),
  )
  app.post(
    '/v1/orders',
    route('operator', async ({ request, response }) => {
      await streamItems(link, { op: 'order', signed: parseOrder(await smallBody(request)) }, response)
    }),
  )
  app.get(
    '/v1/recovery/nonce',
    route('recovery', async ({ response }) => {
      response.json(await link.call({ op: 'nonce' }))
    }),
  )
  app.post(
    '/v1/recovery',
    route('recovery', async ({ request, response }) => {
      await streamItems(link, { op: 'order', signed: parseOrder(await smallBody(request)) }, response)
    }),
  )
  // Everybody whom the robot knows may stop it, without a signature (HANDOVER 8.8).
  app.post(
    '/v1/slots/:slot/stop',
    route('observer', ({ response, peer, slot }) =>
      streamItems(urgent, { op: 'stop', slot, pusher: peer.fingerprint }, response),
    ),
  )
  app.post(
    '/v1/estop',
    route('observer', ({ response, peer }) => streamItems(urgent, { op: 'estop', pusher: peer.fingerprint }, response)),
  )
  app.get(
    '/v1/slots/:slot/params',
    route('observer', async ({ response, slot }) => {
      response.json(await link.call({ op: 'params', slot }))
    }),
  )
  app.get(
    '/v1/config',
    route('observer', async ({ response }) => {
      response.json(await link.call({ op: 'config-values' }))
    }),
  )
  app.get(
    '/v1/slots/:slot/releases',
    route('observer', async ({ response, slot }) => {
      response.json(await link.call({ op: 'releases', slot }))
    }),
  )
  // Operators only: the payload holds the program's code and files.
  app.get(
    '/v1/slots/:slot/bundle/:part',
    route('operator', async ({ request, response, slot }) => {
      const part = BUNDLE_PARTS.find((each) => each === request.params.part)
      if (part === undefined) throw notFound()
      const offset = Number(request.query.offset ?? 0)
      if (!Number.isInteger(offset) || offset < 0 || offset > LIMITS.bundle) {
        throw new Refusal('usage', `offset: expected a number from 0 to ${LIMITS.bundle}`)
      }
      response.json(await link.call({ op: 'bundle', slot, part, offset }))
    }),
  )
  app.get(
    '/v1/programs/:program/counter',
    route('observer', async ({ request, response }) => {
      const program = programName(request.params.program)
      response.json(await link.call({ op: 'counter', kind: 'program', program }))
    }),
  )
  app.get(
    '/v1/runtime/counter',
    route('observer', async ({ response }) => {
      response.json(await link.call({ op: 'counter', kind: 'runtime', program: RUNTIME_PROGRAM }))
    }),
  )
  for (const path of ['/v1/logs', '/v1/slots/:slot/logs']) {
    app.get(
      path,
      route('observer', ({ request: { query }, response, slot }) => {
        const chosen = { lines: count(query.lines, 0), follow: flag(query.follow), ...logQuery(query) }
        return streamItems(link, { op: 'logs', slot: slot === '' ? null : slot, ...chosen }, response, 'cancel')
      }),
    )
  }
  app.get(
    '/v1/slots/:slot/spare',
    route('operator', ({ response, slot }) => streamItems(link, { op: 'spare', slot }, response, 'cancel')),
  )
  app.get(
    '/v1/slots/:slot/channels/:name',
    route('operator', (call) => channels.open(call)),
  )
  app.get(
    '/v1/receipts',
    route('observer', ({ request, response }) =>
      streamItems(link, { op: 'receipts', limit: count(request.query.limit, 1) }, response, 'cancel'),
    ),
  )
  app.get(
    '/v1/pins',
    route('observer', ({ request, response }) =>
      streamItems(
        link,
        { op: 'pins', names: handleNames(request.query.names), follow: flag(request.query.follow) },
        response,
        'cancel',
      ),
    ),
  )

  app.use((_request, _response, next) => next(notFound()))
  app.use((error: unknown, request: Request, response: Response, _next: NextFunction) => {
    if (!(error instanceof Refusal)) failed(error, request.path)
    if (response.headersSent) response.destroy()
    else answerRefusal(response, error)
  })
  return app
}

/** The holder of the recovery key uses the routes of recovery, and nobody else does (HANDOVER 19.4). */
function mayUse(have: PeerRole, needs: PeerRole): boolean {
  if (have === 'recovery' || needs === 'recovery') return have === needs
  return ROLE_RANK[have] >= ROLE_RANK[needs]
}

/** The role comes from the session, never from the request (CHANNEL 6.1). */
function peerOf(request: Request): Peer {
  const socket: unknown = request.socket
  const peer = socket instanceof YamuxStream ? socket.peer : undefined
  if (!peer) throw notFound()
  return peer
}

function notFound(): Refusal {
  return new Refusal('not-found', 'no such route')
}

async function smallBody(request: Request): Promise<string> {
  const parts: Buffer[] = []
  let length = 0
  for await (const part of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    length += part.length
    if (length > MAX_BODY) {
      request.resume() // the rest is read and dropped: the stream's next request comes after it
      throw new Refusal('too-large', `body: at most ${MAX_BODY} bytes`)
    }
    parts.push(part)
  }
  return Buffer.concat(parts).toString()
}

function handleName(value: unknown): string {
  if (typeof value === 'string' && HANDLE_NAME.test(value)) return value
  throw new Refusal('usage', 'handle: expected a name like left-motor')
}

function programName(value: unknown): string {
  if (typeof value === 'string' && NAME_PATTERN.test(value)) return value
  throw new Refusal('usage', 'program: expected a name like blinky')
}

function handleNames(value: unknown): string[] | null {
  if (value === undefined) return null
  const names = String(value).split(',')
  if (names.length > MAX_NAMES) throw new Refusal('usage', `names: at most ${MAX_NAMES}`)
  return names.map(handleName)
}

/** The body measures `ago` by CLOCK_MONOTONIC; null: no limit. */
function logQuery({ since, ago, level = 'debug', after }: Request['query']): {
  since: number | null
  ago: number | null
  level: LogLevel
  after: string | null
} {
  const known = LOG_LEVELS.find((each) => each === level)
  if (known === undefined) throw new Refusal('usage', `level: expected one of ${LOG_LEVELS.join(', ')}`)
  if (after !== undefined && !LOG_CURSOR.test(String(after)))
    throw new Refusal('usage', 'after: expected the cursor of a log line')
  const [from, before] = [
    since === undefined ? null : Date.parse(String(since)),
    ago === undefined ? null : Number(ago),
  ]
  for (const given of [from, before]) {
    if (given === null || Number.isFinite(given)) continue
    throw new Refusal('usage', 'since: expected an ISO time; ago: expected ms')
  }
  const ms = (given: number | null) => (given === null ? null : Math.min(Math.max(0, given), Number.MAX_SAFE_INTEGER))
  return { since: ms(from), ago: ms(before), level: known, after: after === undefined ? null : String(after) }
}

function count(value: unknown, min: number): number {
  const n = value === undefined ? 100 : Number(value)
  if (!Number.isInteger(n) || n < min || n > MAX_LINES)
    throw new Refusal('usage', `expected a number from ${min} to ${MAX_LINES}`)
  return n
}

function flag(value: unknown): boolean {
  return value === '1' || value === 'true'
}
