/** Both ends of a channel for tests: real keys, real sockets, and a wire that can be recorded and bent. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import type { Certificate, SignedCertificate } from '../../../../deploy/shared/cert.ts'
import { type ConnectOptions, connectSession } from '../../../../deploy/shared/channel/connect.ts'
import { challengeOf } from '../../../../deploy/shared/channel/handshake.ts'
import {
  createListener,
  generateKeyPair,
  type Identity,
  type KeyPair,
  keyPair,
  type Listener,
  type ListenerOptions,
  type Peer,
  type SecureSocket,
  type YamuxStream,
} from '../../../../deploy/shared/channel/index.ts'
import { Mux } from '../../../../deploy/shared/channel/yamux.ts'
import type { MuxSession } from '../../../../deploy/shared/channel/yamuxstream.ts'
import { eventually } from '../../../e2e/eventually.ts'

export const ROBOT_ID = `SHA256:${'R'.repeat(43)}`
export const OPERATOR: Peer = { fingerprint: `SHA256:${'O'.repeat(43)}`, role: 'owner', name: 'ann' }

export interface Operator {
  secret: Uint8Array
  noise: KeyPair
  card: SignedCertificate
}

/** The channel carries cards without judging them: here they are any two strings. */
export function makeOperator(): Operator {
  const secret = randomBytes(32)
  return { secret, noise: keyPair(secret), card: { cert: 'card', sig: 'signature' } }
}

export function robotCard(noise: KeyPair, id = ROBOT_ID): Certificate & { id: string } {
  const key = `ssh-ed25519 ${'A'.repeat(68)}`
  const base64 = Buffer.from(noise.public).toString('base64')
  return { format: 'medulla-cert/1', subject: 'robot', name: 'testbot', key, noise: base64, created: '', id }
}

export interface Robot {
  listener: Listener
  noise: KeyPair
  port: number
  /** every session that was counted as established */
  sessions: SecureSocket[]
  identities: Identity[]
  reasons: string[]
  close(): Promise<void>
}

export async function startRobot(
  allowed: readonly Operator[],
  options: Partial<ListenerOptions> & { path?: string } = {},
): Promise<Robot> {
  const noise = options.noise ?? generateKeyPair()
  const sessions: SecureSocket[] = []
  const identities: Identity[] = []
  const reasons: string[] = []
  const listener = createListener({
    greeting: () => ({ name: 'testbot', id: ROBOT_ID, version: '0.0.0', protocol: 'medulla/2' }),
    noise,
    robot: ROBOT_ID,
    who: async (key) => (allowed.some((one) => Buffer.compare(one.noise.public, key) === 0) ? OPERATOR : null),
    known: () => false,
    refused: (reason) => reasons.push(reason),
    ...options,
    session: (socket, identity) => {
      socket.on('error', () => {})
      sessions.push(socket)
      identities.push(identity)
      options.session?.(socket, identity)
    },
  })
  if (options.path) listener.server.listen(options.path)
  else listener.server.listen(0, '127.0.0.1')
  await once(listener.server, 'listening')
  const address = listener.server.address()
  const port = typeof address === 'object' && address ? address.port : 0
  return { listener, noise, port, sessions, identities, reasons, close: () => listener.close() }
}

export function connectOptions(robot: Pick<Robot, 'noise' | 'port'>, operator: Operator): ConnectOptions {
  const { secret, card } = operator
  return { host: '127.0.0.1', port: robot.port, noiseSecret: secret, cert: card, robot: robotCard(robot.noise) }
}

/** Established, with the robot's end. */
export async function openPair(robot: Robot, operator: Operator, more: Partial<ConnectOptions> = {}) {
  const before = robot.sessions.length
  const laptop = await connectSession({ ...connectOptions(robot, operator), ...more })
  laptop.on('error', () => {})
  const server = await eventually(() => robot.sessions[before])
  return { laptop, server }
}

/** A stream in this session of the laptop, which ends with it. */
export function streamOf(session: SecureSocket): YamuxStream {
  const stream = new Mux({ session, initiator: true }).open()
  return stream.on('error', () => {}).on('close', () => session.destroy())
}

export const UPGRADE = 'GET / HTTP/1.1\r\nHost: r\r\nConnection: Upgrade\r\nUpgrade: medulla/2\r\n\r\n'

/** A connection that was answered 101: its challenge, and what has come, the answer's head too. */
export async function upgraded(
  port: number,
  token = 'medulla/2',
): Promise<{ socket: Socket; answer: Buffer[]; challenge: Buffer }> {
  const socket = connect(port, '127.0.0.1').setNoDelay()
  socket.on('error', () => {})
  const answer = collect(socket)
  socket.write(UPGRADE.replace('medulla/2', token))
  const head = await eventually(() => {
    const all = Buffer.concat(answer).toString('latin1')
    return all.includes('\r\n\r\n') && all
  })
  return { socket, answer, challenge: challengeOf(head) }
}

export interface Wire {
  port: number
  /** all bytes of each connection, by direction */
  connections: { up: Buffer[]; down: Buffer[]; client: Socket; server: Socket }[]
  close(): void
}

/** A proxy that records, and lets `bend` change what goes to the robot (`up`) or to the laptop (`down`). */
export async function tapWire(
  port: number,
  bend: (chunk: Buffer, direction: 'up' | 'down', server: Socket) => Buffer | null = (chunk) => chunk,
): Promise<Wire> {
  const connections: Wire['connections'] = []
  const proxy = createServer((client) => {
    const server = connect(port, '127.0.0.1').setNoDelay()
    client.setNoDelay()
    const record = { up: [] as Buffer[], down: [] as Buffer[], client, server }
    connections.push(record)
    client.on('error', () => {}).on('close', () => server.destroy())
    server.on('error', () => {}).on('close', () => client.destroy())
    client.on('data', (chunk) => {
      record.up.push(chunk)
      const bent = bend(chunk, 'up', server)
      if (bent) server.write(bent)
    })
    server.on('data', (chunk) => {
      record.down.push(chunk)
      const bent = bend(chunk, 'down', server)
      if (bent) client.write(bent)
    })
    client.on('end', () => server.end())
    server.on('end', () => client.end())
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  const close = () => {
    proxy.close()
    for (const { client, server } of connections) {
      client.destroy()
      server.destroy()
    }
  }
  return { port: (proxy.address() as AddressInfo).port, connections, close }
}

/** Two ends of an in-memory pipe, each a Duplex. */
export function memoryPipe(): [Duplex, Duplex] {
  const make = (other: () => Duplex) =>
    new Duplex({
      read() {},
      write(chunk, _encoding, callback) {
        other().push(chunk)
        setImmediate(callback)
      },
      final(callback) {
        other().push(null)
        callback()
      },
      destroy(error, callback) {
        if (!other().destroyed) other().push(null)
        callback(error)
      },
    })
  const a: Duplex = make(() => b)
  const b: Duplex = make(() => a)
  return [a, b]
}

/** Two ends of an in-memory pipe, each a session for a multiplexer. */
export function muxPipe(): [MuxSession, MuxSession] {
  const make = (stream: Duplex): MuxSession =>
    Object.assign(stream, {
      attach(receiver: Parameters<MuxSession['attach']>[0]) {
        stream.on('data', (data: Buffer) => receiver.onData(data)).on('drain', () => receiver.onDrain())
      },
      send: (parts: readonly Buffer[], length: number) => stream.write(Buffer.concat(parts, length)),
    })
  const [mine, its] = memoryPipe()
  return [make(mine), make(its)]
}

export function collect(stream: Duplex): Buffer[] {
  const chunks: Buffer[] = []
  stream.on('data', (chunk) => chunks.push(chunk))
  return chunks
}

/** Resolves when closed, with whether an error came first. */
export function closed(stream: Duplex): Promise<Error | undefined> {
  return new Promise((resolve) => {
    let failure: Error | undefined
    stream.on('error', (error) => {
      failure = error
    })
    if (stream.closed) resolve(undefined)
    stream.on('close', () => resolve(failure))
  })
}
