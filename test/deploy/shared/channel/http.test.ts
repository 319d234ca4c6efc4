import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, request, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { afterEach, expect, test } from 'vitest'
import { RobotClient } from '../../../../deploy/laptop/client.ts'
import {
  SERVE_OPTIONS,
  type ServeDeadlines,
  serveSession,
  watchRequests,
} from '../../../../deploy/shared/channel/index.ts'
import { eventually, SCALE } from '../../../e2e/eventually.ts'
import { closed, collect, connectOptions, makeOperator, openPair, startRobot, streamOf, tapWire } from './peers.ts'

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

const ann = makeOperator()
const FAST: ServeDeadlines = { headMs: 150, bodyMs: 150, dumpMs: 150, idleMs: 300, stuckMs: 300 }
/** Long enough that a session which keeps its deadlines also keeps them on a busy machine. */
const KEPT_MS = 1500 * SCALE
const KEPT: ServeDeadlines = { headMs: KEPT_MS, bodyMs: KEPT_MS, dumpMs: KEPT_MS, idleMs: KEPT_MS, stuckMs: KEPT_MS }

async function serve(handler: RequestListener, deadlines?: ServeDeadlines) {
  const inner = createServer(SERVE_OPTIONS, handler)
  watchRequests(inner)
  const robot = await startRobot([ann], { session: (socket) => serveSession(inner, socket, deadlines) })
  cleanups.push(robot.close)
  return robot
}

async function clientOf(robot: Awaited<ReturnType<typeof serve>>, port = robot.port) {
  const client = await RobotClient.connect({ ...connectOptions(robot, ann), port })
  cleanups.push(() => client.close())
  return client
}

const json = (response: ServerResponse, value: unknown, status = 200) =>
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(value))

test('CHANNEL 6.8: S14: requests in a row and side by side share one session, a stream for each that runs', async () => {
  const waiting: ServerResponse[] = []
  const streams = new Set<unknown>()
  const robot = await serve((incoming, response) => {
    streams.add(incoming.socket)
    waiting.push(response)
  })
  const answer = () => {
    for (const response of waiting.splice(0)) json(response, { name: 'r' })
  }
  const client = await clientOf(robot)
  for (let i = 0; i < 5; i++) {
    const status = client.status()
    await eventually(() => waiting.length === 1)
    answer()
    expect(await status).toEqual({ name: 'r' })
  }
  expect(streams.size).toBe(1)
  let open = 50
  const all = Array.from({ length: open }, () => client.status().finally(() => open--))
  // No request is answered before 32 streams have one each. A further stream would show now.
  await eventually(() => waiting.length === 32)
  await sleep(50)
  expect(waiting).toHaveLength(32)
  await eventually(() => {
    answer()
    return open === 0
  })
  await Promise.all(all)
  expect(streams.size).toBe(32)
  expect(robot.sessions).toHaveLength(1)
})

test('CHANNEL 6.8: S14: a status is answered during a push on the same connection, also when nobody reads the push', async () => {
  let pushing: IncomingMessage | undefined
  const robot = await serve((incoming, response) => {
    if (incoming.method === 'PUT') pushing = incoming
    else json(response, { name: 'r' })
    if (incoming.method === 'PUT') incoming.on('end', () => response.end('{"event":"result"}\n'))
  })
  const wire = await tapWire(robot.port)
  cleanups.push(wire.close)
  const client = await clientOf(robot, wire.port)
  const events: unknown[] = []
  const bundle = Buffer.alloc(8 * 1024 * 1024, 7)
  const push = (async () => {
    for await (const event of client.push('main', bundle)) events.push(event)
  })()
  await eventually(() => pushing !== undefined)
  for (let i = 0; i < 20; i++) expect(await client.status()).toEqual({ name: 'r' })
  expect(events).toEqual([])
  let got = 0
  pushing?.on('data', (chunk) => {
    got += chunk.length
  })
  for (let i = 0; i < 20; i++) expect(await client.status()).toEqual({ name: 'r' })
  await push
  expect([events, got]).toEqual([[{ event: 'result' }], bundle.length])
  expect(wire.connections).toHaveLength(1)
})

test('CHANNEL 8.9: a stop overtakes a push over a network that takes nothing more, and 32 requests that wait', async () => {
  const stops: string[] = []
  const robot = await serve((incoming, response) => {
    if (incoming.method !== 'POST') return
    stops.push(incoming.url ?? '')
    response.end('{"event":"result"}\n')
  })
  // the network of the first connection stands still once the push has begun
  let connections: Socket[] = []
  let isStill = false
  const wire = await tapWire(robot.port, (chunk, way, server) => {
    if (!connections.includes(server)) connections = [...connections, server]
    return isStill && way === 'up' && server === connections[0] ? null : chunk
  })
  cleanups.push(wire.close)
  const client = await clientOf(robot, wire.port)
  const stuck = Array.from({ length: 32 }, () => client.status().catch(() => {}))
  const push = (async () => {
    for await (const _ of client.push('main', Buffer.alloc(8 * 1024 * 1024, 7)));
  })().catch(() => {})
  await eventually(() => connections.length > 0)
  isStill = true
  const events: unknown[] = []
  for await (const event of client.stop('main')) events.push(event)
  for await (const event of client.estop()) events.push(event)
  expect([stops, events]).toEqual([
    ['/v1/slots/main/stop', '/v1/estop'],
    [{ event: 'result' }, { event: 'result' }],
  ])
  client.close()
  await Promise.all([...stuck, push])
})

test('a session that ended between two requests is replaced', async () => {
  const robot = await serve((_request, response) => json(response, {}))
  const client = await clientOf(robot)
  await client.status()
  const first = robot.sessions[0]
  first?.destroy()
  await eventually(() => robot.listener.sessions.size === 0)
  // The client hears of the end in a later round of the event loop. A busy machine delays rounds, and does not drop any.
  for (let i = 0; i < 10; i++) await sleep(2)
  await client.status()
  expect(robot.sessions).toHaveLength(2)
})

test('P4: a bundle on the wire shows no 16 bytes in a row of what was pushed', async () => {
  const got: Buffer[] = []
  const robot = await serve((incoming, response) => {
    incoming.on('data', (chunk) => got.push(chunk)).on('end', () => response.end('{"event":"result"}\n'))
  })
  const wire = await tapWire(robot.port)
  cleanups.push(wire.close)
  const client = await clientOf(robot, wire.port)
  const program = Buffer.from(Array.from({ length: 4000 }, (_, i) => `led.write(${i}) // blink\n`).join(''))
  const events: unknown[] = []
  for await (const event of client.push('main', program)) events.push(event)
  expect(events).toEqual([{ event: 'result' }])
  expect(Buffer.concat(got).equals(program)).toBe(true)
  const windows = new Set<string>()
  for (let i = 0; i + 16 <= program.length; i++) windows.add(program.toString('latin1', i, i + 16))
  const seen = wire.connections.flatMap(({ up, down }) => [Buffer.concat(up), Buffer.concat(down)])
  expect(seen.reduce((sum, bytes) => sum + bytes.length, 0)).toBeGreaterThan(program.length)
  for (const bytes of seen) {
    for (let i = 0; i + 16 <= bytes.length; i++) expect(windows.has(bytes.toString('latin1', i, i + 16))).toBe(false)
    for (const word of ['HTTP/1.1 200', '/v1/slots', ann.card.cert]) expect(bytes.includes(word)).toBe(false)
  }
})

test('a refusal in the middle of an upload is read, not lost', async () => {
  const robot = await serve((_request, response) => {
    json(response, { error: { code: 'in-progress', message: 'another push', hint: 'wait' } }, 409)
  })
  const client = await clientOf(robot)
  for (const size of [10, 100_000, 20_000_000]) {
    const attempt = client.push('main', Buffer.alloc(size)).next()
    await expect(attempt).rejects.toMatchObject({ code: 'in-progress', message: 'another push', hint: 'wait' })
  }
})

test('after a refusal the next request has another stream: the robot may have reset the first one', async () => {
  const robot = await serve((incoming, response) => {
    if (incoming.method === 'GET') return void json(response, { name: 'r' })
    // answered before the body was read, and given up with it
    json(response, { error: { code: 'too-large', message: 'too large' } }, 413)
    response.on('finish', () => incoming.destroy())
  })
  const client = await clientOf(robot)
  for (let i = 0; i < 10; i++) {
    const attempt = client.push('main', Buffer.alloc(64 * 1024)).next()
    await expect(attempt).rejects.toMatchObject({ code: 'too-large' })
    expect(await client.status()).toEqual({ name: 'r' })
  }
  expect(robot.sessions).toHaveLength(1)
})

test('an answer that is cut off is an error, lines before it were given out', async () => {
  let cutOff = () => {}
  const robot = await serve((_request, response) => {
    response.write('{"event":"phase"}\n{"event":')
    cutOff = () => void response.destroy()
  })
  const client = await clientOf(robot)
  const events: unknown[] = []
  const follow = async () => {
    for await (const event of client.push('main', Buffer.from('x'))) {
      events.push(event)
      cutOff()
    }
  }
  await expect(follow()).rejects.toMatchObject({ code: 'unreachable' })
  expect(events).toEqual([{ event: 'phase' }])
})

test('logs: a follower sees lines at once, and both signal and break end it on the robot', async () => {
  const responses: ServerResponse[] = []
  const robot = await serve((incoming: IncomingMessage, response) => {
    expect(incoming.url).toBe('/v1/slots/main/logs?lines=5&follow=1')
    responses.push(response)
    response.write('{"text":"é1"}\n')
  })
  const client = await clientOf(robot)
  const stop = new AbortController()
  const texts: string[] = []
  for await (const line of client.logs('main', { lines: 5, follow: true, signal: stop.signal })) {
    texts.push(line.text)
    if (texts.length === 1) {
      responses[0]?.write(Buffer.from('{"text":"é2"}\n').subarray(0, 10))
      setTimeout(() => responses[0]?.write(Buffer.from('{"text":"é2"}\n').subarray(10)), 10)
    } else stop.abort()
  }
  expect(texts).toEqual(['é1', 'é2'])
  await eventually(() => responses[0]?.destroyed)
  for await (const _line of client.logs('main', { lines: 5, follow: true })) break
  await eventually(() => responses[1]?.destroyed)
})

test('CHANNEL 6.3: deadlines of a stream: head, body, unwanted body, idle, reader that does not read', async () => {
  const handler: RequestListener = (incoming, response) => {
    if (incoming.url === '/refuse') return void json(response, {}, 409)
    if (incoming.url === '/endless') {
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65536)));
      }
      response.on('drain', more)
      return more()
    }
    incoming.on('error', () => {})
    incoming.resume().on('end', () => response.end('ok'))
  }
  const robot = await serve(handler, FAST)
  const head = 'HTTP/1.1\r\nHost: r\r\n'
  const drip = (bytes: string) => bytes
  for (const start of [
    drip(`GET / ${head}X: `), // head never ends
    drip(`PUT / ${head}Content-Length: 100\r\n\r\nabc`), // body stops
    drip(`PUT /refuse ${head}Content-Length: 100\r\n\r\nabc`), // answered, the rest never comes
    drip(`GET / ${head}\r\n`), // answered, then idle
    '', // idle from the start
    drip(`GET /endless ${head}\r\n`),
  ]) {
    const { laptop: session, server } = await openPair(robot, ann)
    const laptop = streamOf(session)
    if (!start.includes('endless')) laptop.resume()
    const begin = performance.now()
    const end = start === '' ? closed(server) : closed(laptop)
    laptop.write(start)
    await end
    // far more than FAST gives, and less than the shortest deadline of CHANNEL 6.3
    expect(performance.now() - begin, start).toBeLessThan(5000 * SCALE)
    laptop.destroy()
  }
  // A body that takes twice its deadline, and never pauses for a whole one, is not ended.
  const { laptop: session } = await openPair(await serve(handler, KEPT), ann)
  const laptop = streamOf(session)
  laptop.write(`PUT / ${head}Content-Length: 8\r\n\r\n`)
  for (let i = 0; i < 8; i++) {
    await sleep(KEPT_MS / 4)
    laptop.write('x')
  }
  const [answer] = await once(laptop, 'data')
  expect(String(answer)).toMatch(/^HTTP\/1\.1 200 /)
})

test('CHANNEL 6.2: a head of more than 16 KiB ends the stream', async () => {
  const robot = await serve((_request, response) => response.end('ok'))
  for (const [size, fine] of [
    [15_000, true],
    [17_000, false],
  ] as const) {
    const laptop = streamOf((await openPair(robot, ann)).laptop)
    const heard = collect(laptop)
    laptop.write(`GET / HTTP/1.1\r\nHost: r\r\nX: ${'a'.repeat(size)}\r\n\r\n`)
    await eventually(() => heard.length > 0 || laptop.closed)
    expect(heard.length > 0).toBe(fine)
    laptop.destroy()
  }
})

test('the laptop loads nothing heavy: its own files, node, and one file of noble', async () => {
  const root = fileURLToPath(new URL('../../../..', import.meta.url))
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: ['deploy/laptop/client.ts'],
    bundle: true,
    splitting: true,
    outdir: 'out',
    write: false,
    metafile: true,
    platform: 'node',
    format: 'esm',
    packages: 'external',
  })
  // what is imported when an order is signed is another file
  const loaded = new Set(['out/client.js'])
  for (const name of loaded) {
    for (const { path, kind } of metafile.outputs[name]?.imports ?? [])
      if (kind === 'import-statement' && path in metafile.outputs) loaded.add(path)
  }
  const outputs = [...loaded].map((name) => metafile.outputs[name])
  for (const path of outputs.flatMap((output) => Object.keys(output?.inputs ?? {})))
    expect(path).toMatch(
      /^deploy\/(laptop\/(client|following|greeting|opensession|requests)|shared\/(api|errors|linesplitter|names|timescale)|shared\/bundle\/limits|shared\/channel\/[a-z0-9]+)\.ts$/,
    )
  const imports = outputs.flatMap((output) => output?.imports ?? []).filter(({ external }) => external)
  expect(imports.map(({ path }) => path).filter((path) => !path.startsWith('node:'))).toEqual([
    '@noble/ciphers/chacha.js',
  ])
})

test('CHANNEL 6.4: more than four unanswered requests in one stream end it', async () => {
  const robot = await serve(() => {})
  const laptop = streamOf((await openPair(robot, ann)).laptop)
  laptop.resume()
  laptop.write('GET / HTTP/1.1\r\nHost: r\r\n\r\n'.repeat(5))
  await closed(laptop)
})

test('upgraded streams and the manners of net.Socket that node:http asks for', async () => {
  const inner = createServer()
  let server: Socket | undefined
  inner.on('upgrade', (_request, socket) => {
    server = socket as unknown as Socket
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
    socket.pipe(socket)
  })
  watchRequests(inner)
  const robot = await startRobot([ann], { session: (socket) => serveSession(inner, socket, KEPT) })
  cleanups.push(robot.close)
  const laptop = streamOf((await openPair(robot, ann)).laptop)
  const asked = request({ createConnection: () => laptop, headers: { Connection: 'Upgrade', Upgrade: 'echo' } })
  asked.end()
  const [, stream] = await once(asked, 'upgrade')
  await sleep(KEPT_MS * 1.2) // longer than a head or an idle session may take
  stream.write('hello')
  expect(String((await once(stream, 'data'))[0])).toBe('hello')
  expect(server?.remoteAddress).toBe('127.0.0.1')
  expect(server?.address()).toMatchObject({ address: '127.0.0.1', port: robot.port })
  server?.ref().unref().setNoDelay().setKeepAlive(true, 1000)
  let timeouts = 0
  laptop.setTimeout(30, () => timeouts++)
  expect(laptop.timeout).toBe(30)
  await once(laptop, 'timeout')
  expect(timeouts).toBe(1)
  laptop.setTimeout(0)
  const end = closed(laptop)
  laptop.destroySoon()
  await end
})
