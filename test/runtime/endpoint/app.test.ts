import { closeSync, openSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, onTestFinished, test } from 'vitest'
import { RobotClient } from '../../../deploy/laptop/client.ts'
import { type PeerRole, ROLE_RANK, type Role } from '../../../deploy/shared/api.ts'
import { serveSession, watchRequests } from '../../../deploy/shared/channel/index.ts'
import { LineSplitter } from '../../../deploy/shared/linesplitter.ts'
import { createApp, roleOf } from '../../../runtime/endpoint/app.ts'
import { BodyLink } from '../../../runtime/endpoint/bodylink.ts'
import { strangerLog } from '../../../runtime/endpoint/log.ts'
import { Uploads } from '../../../runtime/endpoint/push.ts'
import { Staging } from '../../../runtime/endpoint/staging.ts'
import { EndpointMessage, IPC_MAX_LINE } from '../../../runtime/ipc.ts'
import {
  connectOptions,
  makeOperator,
  memoryPipe,
  OPERATOR,
  openPair,
  startRobot,
  streamOf,
} from '../../deploy/shared/channel/peers.ts'
import { eventually } from '../../e2e/eventually.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** The far end of a link: every line it gets, checked as the body checks it. */
function link() {
  const [near, far] = memoryPipe()
  const told: EndpointMessage[] = []
  const closed: string[] = []
  const splitter = new LineSplitter()
  far.on('data', (chunk) => {
    for (const line of splitter.push(chunk)) told.push(EndpointMessage.parse(JSON.parse(line)))
  })
  const events = {
    config: () => {},
    operators: () => {},
    pairing: () => {},
    closed: (reason: string) => closed.push(reason),
  }
  return {
    link: new BodyLink(near, events),
    far,
    told,
    closed,
    say: (value: unknown) => far.write(`${JSON.stringify(value)}\n`),
  }
}

async function makeApp() {
  const body = link()
  const staging = new Staging([])
  const opener = { open: () => Promise.reject(new Error('not here')) }
  const failures: unknown[] = []
  const uploads = new Uploads({ link: body.link, operators: { signers: async () => [] }, opener, staging })
  const sessions = { current: async () => {} }
  const app = createApp({
    link: body.link,
    urgent: body.link,
    uploads,
    sessions,
    channels: { open: () => Promise.reject(new Error('not here')) },
    failed: (error) => failures.push(error),
  })
  return { ...body, app, failures }
}

interface Layer {
  route?: { path: string; methods: Record<string, boolean>; stack: { handle: object }[] }
  handle: object
}

test('CHANNEL 6.1: every route of the router names its role; there are no others', async () => {
  const { app } = await makeApp()
  const found: Record<string, PeerRole | undefined> = {}
  const layers = (app.router as unknown as { stack: Layer[] }).stack
  for (const { route } of layers) {
    if (!route) continue
    expect(route.stack).toHaveLength(1)
    for (const method of Object.keys(route.methods)) {
      found[`${method.toUpperCase()} ${route.path}`] = roleOf(route.stack[0]?.handle ?? {})
    }
  }
  expect(found).toEqual({
    'GET /v1/status': 'observer',
    'PUT /v1/slots/:slot/program': 'operator',
    'PUT /v1/runtime': 'owner',
    'GET /v1/runtime/counter': 'observer',
    'POST /v1/estop': 'observer',
    'GET /v1/operators': 'operator',
    'GET /v1/nonce': 'operator',
    'POST /v1/orders': 'operator',
    'GET /v1/recovery/nonce': 'recovery',
    'POST /v1/recovery': 'recovery',
    'POST /v1/slots/:slot/stop': 'observer',
    'GET /v1/slots/:slot/logs': 'observer',
    'GET /v1/slots/:slot/releases': 'observer',
    'GET /v1/slots/:slot/bundle/:part': 'operator',
    'GET /v1/slots/:slot/spare': 'operator',
    'GET /v1/logs': 'observer',
    'GET /v1/slots/:slot/channels/:name': 'operator',
    'GET /v1/slots/:slot/params': 'observer',
    'GET /v1/programs/:program/counter': 'observer',
    'GET /v1/receipts': 'observer',
    'GET /v1/pins': 'observer',
    'GET /v1/board': 'observer',
    'GET /v1/config': 'observer',
  })
  // what is no route is the guard before them, and the refusal of everything else after them
  expect(layers.map(({ route }) => (route ? 'r' : '-')).join('')).toMatch(/^-+r+--$/)
})

test('CHANNEL 6.1: every route refuses every role below its own, and a plain socket gets nothing', async () => {
  const { app, told, say } = await makeApp()
  const ann = makeOperator()
  const inner = createServer(app)
  watchRequests(inner)
  let role: Role = 'observer'
  const robot = await startRobot([ann], {
    who: async () => ({ ...OPERATOR, role }),
    session: (socket) => serveSession(inner, socket),
  })
  cleanups.push(robot.close)
  for (const have of Object.keys(ROLE_RANK) as Role[]) {
    role = have
    const client = await RobotClient.connect(connectOptions(robot, ann))
    cleanups.push(() => client.close())
    const before = told.length
    const attempt = client.carryOut({ order: 'any', sig: 'any' }).next()
    if (have === 'observer') {
      await expect(attempt).rejects.toMatchObject({ code: 'role' })
      await eventually(() => told.length > before)
      expect(told.at(-1)).toMatchObject({ op: 'refused', code: 'role', slot: 'all' })
    } else {
      const asked = await eventually(() => told.slice(before).find(({ op }) => op === 'order'))
      say({ op: 'done', id: asked.id })
      expect(await attempt).toEqual({ done: true, value: undefined })
    }
  }
  // the app on a listening server: no session, so no peer, so no routes
  const plain = createServer(app).listen(0, '127.0.0.1')
  cleanups.push(() => plain.close())
  await eventually(() => plain.listening)
  const { port } = plain.address() as AddressInfo
  for (const [method, path] of [
    ['GET', '/v1/status'],
    ['PUT', '/v1/slots/main/program'],
    ['GET', '/'],
  ]) {
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method: method ?? '' })
    expect(answer.status).toBe(404)
    expect(await answer.json()).toEqual({ error: { code: 'not-found', message: 'no such route' } })
  }
})

test('HANDOVER 8.9: what the protocol to the body does not have is refused, and never sent', async () => {
  const { link, told } = await makeApp()
  const pusher = `SHA256:${'O'.repeat(43)}`
  const wrong = [
    { op: 'order', signed: { order: 'x'.repeat(16 * 1024 + 1), sig: '' } },
    { op: 'pins', names: ['-led'], follow: false },
    { op: 'logs', slot: null, lines: 100_000, since: null, ago: null, level: 'debug', after: null, follow: false },
    { op: 'logs', slot: null, lines: 1, since: 1e20, ago: null, level: 'debug', after: null, follow: false },
    { op: 'logs', slot: null, lines: 1, since: null, ago: -1, level: 'debug', after: null, follow: false },
    { op: 'logs', slot: null, lines: 1, since: null, ago: null, level: 'debug', after: '../1', follow: false },
    { op: 'stop', slot: '../main', pusher },
  ] as const
  for (const message of wrong) await expect(link.call(message as never)).rejects.toMatchObject({ code: 'usage' })
  expect(told).toEqual([])
})

test('what fails inside is logged and told as nothing but internal', async () => {
  const { app, failures } = await makeApp()
  const ann = makeOperator()
  const inner = createServer(app)
  watchRequests(inner)
  const robot = await startRobot([ann], { session: (socket) => serveSession(inner, socket) })
  cleanups.push(robot.close)
  const client = await RobotClient.connect(connectOptions(robot, ann))
  cleanups.push(() => client.close())
  const bundle = Buffer.from(
    `age-encryption.org/v1\n-> X25519 ${'A'.repeat(43)}\n${'A'.repeat(43)}\n--- ${'A'.repeat(43)}\nxxx`,
  )
  await expect(client.push('main', bundle).next()).rejects.toMatchObject({
    code: 'internal',
    message: 'the endpoint failed',
  })
  expect(failures).toEqual([expect.objectContaining({ message: 'not here' })])
})

test('a follower that does not read is cut off, the others go on', async () => {
  const { app, told, say, far } = await makeApp()
  const ann = makeOperator()
  const inner = createServer(app)
  watchRequests(inner)
  const robot = await startRobot([ann], { session: (socket) => serveSession(inner, socket) })
  cleanups.push(robot.close)
  const { laptop: session } = await openPair(robot, ann)
  const laptop = streamOf(session)
  laptop.write('GET /v1/slots/main/logs?follow=1 HTTP/1.1\r\nHost: r\r\n\r\n')
  const asked = await eventually(() => told.find(({ op }) => op === 'logs'))
  const item = { text: 'x'.repeat(60_000) }
  const line = `${JSON.stringify({ op: 'item', id: asked.id, item })}\n`
  let sent = 0
  while (!told.some(({ op }) => op === 'cancel')) {
    await new Promise((resolve) => far.write(line, resolve))
    sent += line.length
    expect(sent).toBeLessThan(64 * 1024 * 1024)
  }
  const client = await RobotClient.connect(connectOptions(robot, ann))
  cleanups.push(() => client.close())
  const status = client.status()
  const { id } = await eventually(() => told.find(({ op }) => op === 'status'))
  say({ op: 'done', id, value: { name: 'r' } })
  expect(await status).toEqual({ name: 'r' })
})

test('link: answers find their request whatever the pieces, unknown ids are passed over', async () => {
  const { link: body, far, told } = link()
  const items: unknown[] = []
  const first = body.stream({ op: 'receipts', limit: 2 }, (item) => items.push(item))
  const second = body.call({ op: 'status' })
  await eventually(() => told.length === 2)
  const [a, b] = told.map(({ id }) => id)
  const lines = [
    { op: 'item', id: a, item: 'é' },
    { op: 'item', id: 999, item: 'nobody' },
    { op: 'error', id: b, error: { code: 'not-found', message: 'no' } },
    { op: 'done', id: a, value: 7 },
  ]
  const caught = second.catch((error) => error.code)
  for (const byte of Buffer.from(lines.map((line) => `${JSON.stringify(line)}\n`).join(''))) far.write(Buffer.of(byte))
  expect(await first).toBe(7)
  expect(items).toEqual(['é'])
  expect(await caught).toBe('not-found')
})

test('link: when it closes, everything that waits has failed; so has everything after', async () => {
  const { link: body, far, closed } = link()
  const waiting = body.call({ op: 'status' }).catch((error) => error.code)
  far.destroy()
  expect(await waiting).toBe('body-away')
  await expect(body.call({ op: 'status' })).rejects.toMatchObject({ code: 'body-away' })
  expect(closed).toHaveLength(1)
})

test('link: a line without end, another op or no JSON closes it', async () => {
  for (const bytes of [
    'x'.repeat(IPC_MAX_LINE + 1),
    '{"op":"exec"}\n',
    '{"op":"done"}\n',
    'null\n',
    '\n',
    '{"op":"item","id":"1"}\n',
  ]) {
    const { far, closed } = link()
    far.write(bytes)
    await eventually(() => closed.length === 1)
  }
})

test('link: the number of requests that wait is bounded', async () => {
  const { link: body } = link()
  const waiting = Array.from({ length: 300 }, () => body.call({ op: 'status' }).catch((error) => error.code))
  expect(await Promise.race(waiting)).toBe('in-progress')
})

test('HANDOVER 8.16: a bundle is staged in a file that was given, whole and alone; with every file in use it is refused', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'medulla-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  const paths = [join(folder, 'a'), join(folder, 'b')]
  const fds = paths.map((path) => openSync(path, 'w'))
  const staging = new Staging(fds)
  const first = await staging.put(Buffer.alloc(1000, 1))
  const second = await staging.put(Buffer.alloc(2000, 2))
  expect([first, second]).toEqual([
    { index: 0, length: 1000 },
    { index: 1, length: 2000 },
  ])
  await expect(staging.put(Buffer.alloc(1))).rejects.toMatchObject({ code: 'in-progress' })
  await staging.remove(0)
  expect(await readFile(paths[0] ?? '')).toHaveLength(0)
  // a shorter one leaves nothing of what was there
  expect(await staging.put(Buffer.from('short'))).toEqual({ index: 0, length: 5 })
  expect(await readFile(paths[0] ?? '', 'utf8')).toBe('short')
  for (const fd of fds) closeSync(fd)
  await expect(staging.remove(1)).rejects.toMatchObject({ code: 'EBADF' })
})

test('log: strangers cannot flood it, what is left out is counted', () => {
  const lines: object[] = []
  let now = 0
  const log = strangerLog({ warn: (line: object) => lines.push(line) } as never, () => now)
  for (let i = 0; i < 1000; i++) log('no', '10.0.0.1')
  expect(lines).toHaveLength(10)
  now = 1000
  log('no', '10.0.0.1')
  expect(lines.at(-1)).toEqual({ reason: 'no', address: '10.0.0.1', dropped: 990 })
})
