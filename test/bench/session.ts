/**
 * What the encrypted session costs, beside node:tls and a plain socket: messages of several sizes in one direction, and round
 * trips, over UNIX sockets with both ends in this process. Ours has all it has between laptop and robot: frames, renewal of keys,
 * and streams with windows. TLS is 1.3 with the same cipher. All three get their writes of one turn of the loop together.
 */
import { spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { createServer as createTlsServer, connect as tlsConnect } from 'node:tls'
import type { Certificate } from '../../deploy/shared/cert.ts'
import { connectSession } from '../../deploy/shared/channel/connect.ts'
import { createListener, generateKeyPair, type SecureSocket } from '../../deploy/shared/channel/index.ts'
import { keyPair } from '../../deploy/shared/channel/x25519.ts'
import { Mux, ROBOT_MUX } from '../../deploy/shared/channel/yamux.ts'
import type { BenchOptions } from './main.ts'
import { temporary } from './rig.ts'
import { type Row, ratio, Series } from './stats.ts'

const SAMPLES = 10
/** Size of a message, how many in a sample, and how much of the throughput of TLS is wanted. */
const SIZES: readonly { name: string; bytes: number; count: number; least?: number }[] = [
  { name: '1B', bytes: 1, count: 500_000, least: 0.4 },
  { name: '1KB', bytes: 1024, count: 50_000 },
  { name: '32KB', bytes: 32 * 1024, count: 4000, least: 0.8 },
  { name: '64KB', bytes: 64 * 1024, count: 2000, least: 0.8 },
]
const TRIPS = 2000
/** us of a round trip, ours by those of TLS */
const TRIP_RATIO = 1.5
const HANDSHAKES = 50
/** ms of CPU */
const HANDSHAKE_GOAL = { p50: 5 }
const IDLE = 100
/** MB for all idle sessions */
const IDLE_GOAL = { max: 10 }

interface Pair {
  laptop: Duplex
  robot: Duplex
}
interface Way {
  readonly name: 'ours' | 'tls' | 'plain'
  open(): Promise<Pair>
  close(): void
}

export async function session({ samples = SAMPLES, wanted, report }: BenchOptions): Promise<Series[]> {
  const folder = temporary()
  const own = await ours(folder)
  const ways: Way[] = [own, await tls(folder), await plain(folder)]
  const all: Series[] = []
  const rows = new Map<string, Row>()
  const run = async (what: string, unit: string, measure: (pair: Pair) => Promise<number>) => {
    const mine = ways
      .map((way) => ({ way, series: new Series('session', `${what}-${way.name}`, unit) }))
      .filter(({ series }) => wanted(series.variant))
    for (let i = 0; i < samples; i++) {
      for (const { way, series } of mine) {
        report.progress(`session: ${series.variant}, ${i + 1} of ${samples}`)
        const pair = await way.open()
        // the first round warms up
        await measure(pair)
        series.add(await measure(pair))
        pair.laptop.destroy()
        pair.robot.destroy()
      }
    }
    for (const { series } of mine) {
      all.push(series)
      rows.set(series.variant, series.row())
      report.row(series.row())
    }
  }
  for (const { name, bytes, count, least } of SIZES) {
    await run(name, 'MB/s', (pair) => throughput(pair, bytes, count))
    const [mine, theirs] = [rows.get(`${name}-ours`), rows.get(`${name}-tls`)]
    if (mine && theirs)
      report.row(ratio('session', `${name}-ratio`, mine, theirs, least === undefined ? {} : { least }))
  }
  await run('trip', 'us', roundTrips)
  const [mine, theirs] = [rows.get('trip-ours'), rows.get('trip-tls')]
  if (mine && theirs) report.row(ratio('session', 'trip-ratio', mine, theirs, { most: TRIP_RATIO }))

  if (wanted('handshake')) {
    const series = new Series('session', 'handshake', 'ms', { note: 'CPU of one side', goal: HANDSHAKE_GOAL })
    for (let i = 0; i < HANDSHAKES * 2; i++) {
      const before = process.cpuUsage()
      const pair = await own.open()
      const { user, system } = process.cpuUsage(before)
      pair.laptop.destroy()
      if (i >= HANDSHAKES) series.add((user + system) / 1000 / 2) // both ends are in this process
    }
    all.push(series)
    report.row(series.row())
  }
  if (wanted('idle')) {
    const series = new Series('session', 'idle', 'MB', { note: `${IDLE} idle sessions, both ends`, goal: IDLE_GOAL })
    const before = settledMemory()
    const pairs = await Promise.all(Array.from({ length: IDLE }, () => own.open()))
    series.add((settledMemory() - before) / 1e6)
    for (const { laptop } of pairs) laptop.destroy()
    all.push(series)
    report.row(series.row())
  }
  for (const way of ways) way.close()
  return all
}

/** Writes of one turn leave together, as the frames of a session do. */
function coalescing(stream: Duplex): (bytes: Buffer) => boolean {
  let corked = false
  return (bytes) => {
    if (!corked) {
      corked = true
      stream.cork()
      process.nextTick(() => {
        corked = false
        stream.uncork()
      })
    }
    return stream.write(bytes)
  }
}

async function throughput({ laptop, robot }: Pair, bytes: number, count: number): Promise<number> {
  const message = Buffer.alloc(bytes, 7)
  const total = bytes * count
  let got = 0
  const came = new Promise<void>((resolve) => {
    const onData = (chunk: Buffer) => {
      got += chunk.length
      if (got < total) return
      robot.off('data', onData)
      resolve()
    }
    robot.on('data', onData)
  })
  const write = coalescing(laptop)
  const began = performance.now()
  for (let i = 0; i < count; i++) {
    if (!write(message)) await once(laptop, 'drain')
  }
  await came
  return total / 1e6 / ((performance.now() - began) / 1000)
}

/** us of one, the mean of all. */
async function roundTrips({ laptop, robot }: Pair): Promise<number> {
  const echo = (chunk: Buffer) => void robot.write(chunk)
  robot.on('data', echo)
  const message = Buffer.alloc(16, 7)
  const began = performance.now()
  for (let i = 0; i < TRIPS; i++) {
    laptop.write(message)
    for (let got = 0; got < message.length; ) got += ((await once(laptop, 'data')) as [Buffer])[0].length
  }
  const took = performance.now() - began
  robot.off('data', echo)
  return (took * 1000) / TRIPS
}

/** Needs `node --expose-gc` for an exact figure; without it the figure is an upper bound. */
function settledMemory(): number {
  ;(globalThis as { gc?: () => void }).gc?.()
  const { heapUsed, external, arrayBuffers } = process.memoryUsage()
  return heapUsed + Math.max(external, arrayBuffers)
}

async function ours(folder: string): Promise<Way> {
  const path = join(folder, 'ours')
  const id = `SHA256:${'R'.repeat(43)}`
  const noise = generateKeyPair()
  const secret = randomBytes(32)
  const known = Buffer.from(keyPair(secret).public)
  const streams: ((stream: Duplex) => void)[] = []
  const sessions = new Set<SecureSocket>()
  const listener = createListener({
    greeting: () => ({ name: 'bench', id, version: '0.0.0', protocol: 'medulla/2' }),
    noise,
    robot: id,
    who: async (key) =>
      known.equals(key) ? { fingerprint: `SHA256:${'O'.repeat(43)}`, role: 'owner', name: 'bench' } : null,
    known: () => true,
    // all connections of the bench are sessions of one operator
    limits: { sessions: 1000, sessionsEach: 1000 },
    session: (socket) => {
      socket.on('error', () => {})
      const accept = (stream: Duplex) => streams.shift()?.(stream.on('error', () => {}))
      new Mux({ session: socket, initiator: false, limits: ROBOT_MUX, accept })
    },
  })
  listener.server.listen(path)
  await once(listener.server, 'listening')
  const robot: Certificate & { id: string } = {
    format: 'medulla-cert/1',
    subject: 'robot',
    name: 'bench',
    key: `ssh-ed25519 ${'A'.repeat(68)}`,
    noise: Buffer.from(noise.public).toString('base64'),
    created: '',
    id,
  }
  return {
    name: 'ours',
    async open() {
      const accepted = new Promise<Duplex>((resolve) => streams.push(resolve))
      const dial = async () => {
        const socket = connect(path)
        await once(socket, 'connect')
        return socket
      }
      const cert = { cert: 'card', sig: 'signature' }
      const socket = await connectSession({ host: 'bench', port: 0, dial, noiseSecret: secret, cert, robot })
      sessions.add(socket)
      socket.on('error', () => {}).on('close', () => sessions.delete(socket))
      const laptop = new Mux({ session: socket, initiator: true }).open()
      laptop.on('error', () => {}).on('close', () => socket.destroy())
      return { laptop, robot: await accepted }
    },
    close() {
      for (const socket of sessions) socket.destroy()
      void listener.close()
    },
  }
}

async function tls(folder: string): Promise<Way> {
  const [key, cert, path] = ['key.pem', 'cert.pem', 'tls'].map((name) => join(folder, name)) as [string, string, string]
  const subject = ['-subj', '/CN=bench', '-days', '2', '-nodes']
  const made = spawnSync('openssl', ['req', '-x509', '-newkey', 'ed25519', '-keyout', key, '-out', cert, ...subject])
  if (made.status !== 0) throw new Error(`openssl does not work here: ${made.stderr}`)
  const ciphers = { ciphers: 'TLS_CHACHA20_POLY1305_SHA256', minVersion: 'TLSv1.3' } as const
  const server = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert), ...ciphers })
  server.listen(path)
  await once(server, 'listening')
  return {
    name: 'tls',
    async open() {
      const accepted = once(server, 'secureConnection') as Promise<[Duplex]>
      const laptop = tlsConnect({ path, rejectUnauthorized: false, ...ciphers })
      const [[robot]] = await Promise.all([accepted, once(laptop, 'secureConnect')])
      return { laptop: laptop.on('error', () => {}), robot: robot.on('error', () => {}) }
    },
    close: () => void server.close(),
  }
}

async function plain(folder: string): Promise<Way> {
  const path = join(folder, 'plain')
  const server = createServer()
  server.listen(path)
  await once(server, 'listening')
  return {
    name: 'plain',
    async open() {
      const accepted = once(server, 'connection') as Promise<[Duplex]>
      const laptop = connect(path)
      const [[robot]] = await Promise.all([accepted, once(laptop, 'connect')])
      return { laptop: laptop.on('error', () => {}), robot: robot.on('error', () => {}) }
    },
    close: () => void server.close(),
  }
}
