/**
 * The Express app behind established sessions: the routes of deploy/shared/api.ts. Invariant: a request is answered only by a
 * route that names its role, and only if the session's operator has that role (test/endpoint/app.test.ts).
 */
import express, { type Express, type NextFunction, type Request, type RequestHandler, type Response } from 'express'
import { LOG_LEVELS, type LogLevel, ROLE_RANK, type Role } from '../../deploy/shared/api.ts'
import { LIMITS } from '../../deploy/shared/bundle/limits.ts'
import { type Peer, SecureSocket } from '../../deploy/shared/channel/socket.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { NAME_PATTERN } from '../../deploy/shared/names.ts'
import { HANDLE_NAME } from '../ipc.ts'
import type { BodyLink } from './bodylink.ts'
import { answerRefusal, type Call, parseOrder } from './call.ts'
import { streamed } from './ndjson.ts'
import type { Uploads } from './push.ts'
import type { Sessions } from './sessions.ts'

const MAX_BODY = 2 * LIMITS.order
const MAX_LINES = 10_000
const MAX_NAMES = 64

export interface AppParts {
  link: BodyLink
  /** The link for stops, which carries nothing else (HANDOVER 8.8). */
  urgent: BodyLink
  door: Uploads
  sessions: Pick<Sessions, 'current'>
  failed: (error: unknown, path: string) => void
}

const roles = new WeakMap<object, Role>()

/** The role that a handler of the router requires; undefined for a handler that was not made by {@link createApp}'s route(). */
export function roleOf(handler: object): Role | undefined {
  return roles.get(handler)
}

export function createApp({ link, urgent, door, sessions, failed }: AppParts): Express {
  const app = express()
  app.disable('x-powered-by').disable('etag').enable('case sensitive routing').enable('strict routing')

  /** The only way to make a handler: session, role and slot are checked before it runs. */
  const route = (role: Role, handler: (call: Call) => Promise<void> | void): RequestHandler => {
    const checked: RequestHandler = async (request, response) => {
      await sessions.current()
      const peer = peerOf(request)
      const slot = request.params.slot === undefined ? '' : String(request.params.slot)
      if (slot && !NAME_PATTERN.test(slot))
        throw new Refusal('usage', `slot: expected a name like "main", got ${slot.length} characters`)
      if (ROLE_RANK[peer.role] < ROLE_RANK[role]) {
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
    route('operator', (call) => door.push(call)),
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
      await streamed(link, { op: 'order', signed: parseOrder(await smallBody(request)) }, response)
    }),
  )
  // Everybody whom the robot knows may stop it, without a signature (HANDOVER 8.8).
  app.post(
    '/v1/slots/:slot/stop',
    route('observer', ({ response, peer, slot }) =>
      streamed(urgent, { op: 'stop', slot, pusher: peer.fingerprint }, response),
    ),
  )
  app.post(
    '/v1/estop',
    route('observer', ({ response, peer }) => streamed(urgent, { op: 'estop', pusher: peer.fingerprint }, response)),
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
  app.get(
    '/v1/programs/:program/counter',
    route('observer', async ({ request, response }) => {
      response.json(await link.call({ op: 'counter', program: programName(request.params.program) }))
    }),
  )
  for (const path of ['/v1/logs', '/v1/slots/:slot/logs']) {
    app.get(
      path,
      route('observer', ({ request: { query }, response, slot }) => {
        const chosen = { lines: count(query.lines, 0), follow: flag(query.follow), ...logQuery(query) }
        return streamed(link, { op: 'logs', slot: slot === '' ? null : slot, ...chosen }, response, 'cancel')
      }),
    )
  }
  app.get(
    '/v1/slots/:slot/spare',
    route('operator', ({ response, slot }) => streamed(link, { op: 'spare', slot }, response, 'cancel')),
  )
  app.get(
    '/v1/receipts',
    route('observer', ({ request, response }) =>
      streamed(link, { op: 'receipts', limit: count(request.query.limit, 1) }, response, 'cancel'),
    ),
  )
  app.get(
    '/v1/pins',
    route('observer', ({ request, response }) =>
      streamed(
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

/** The role comes from the session, never from the request (CHANNEL 6.1). */
function peerOf(request: Request): Peer {
  const socket: unknown = request.socket
  const peer = socket instanceof SecureSocket ? socket.peer : undefined
  if (!peer) throw notFound()
  return peer
}

function notFound(): Refusal {
  return new Refusal('not-found', 'no such route')
}

async function smallBody(request: Request): Promise<string> {
  const parts: Buffer[] = []
  let length = 0
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length
    if (length > MAX_BODY) throw new Refusal('too-large', `body: at most ${MAX_BODY} bytes`)
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
function logQuery({ since, ago, level = 'debug' }: Request['query']): {
  since: number | null
  ago: number | null
  level: LogLevel
} {
  const known = LOG_LEVELS.find((each) => each === level)
  if (known === undefined) throw new Refusal('usage', `level: expected one of ${LOG_LEVELS.join(', ')}`)
  const [from, before] = [
    since === undefined ? null : Date.parse(String(since)),
    ago === undefined ? null : Number(ago),
  ]
  for (const given of [from, before]) {
    if (given === null || Number.isFinite(given)) continue
    throw new Refusal('usage', 'since: expected an ISO time; ago: expected ms')
  }
  const ms = (given: number | null) => (given === null ? null : Math.min(Math.max(0, given), Number.MAX_SAFE_INTEGER))
  return { since: ms(from), ago: ms(before), level: known }
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
