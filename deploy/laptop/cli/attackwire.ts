/** Sends raw bytes to a robot's port and into its sessions for `medulla attack`, and reads the answers. */
import { connect, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { connectSession } from '../../shared/channel/connect.ts'
import { challengeOf, Intake, TOKEN } from '../../shared/channel/handshake.ts'
import type { SecureSocket } from '../../shared/channel/socket.ts'
import { Mux } from '../../shared/channel/yamux.ts'
import { REFUSAL_CODES, Refusal, type RefusalCode } from '../../shared/errors.ts'
import { type ClientOptions, RobotClient } from '../client.ts'
import { type Answer, STATUS_MS } from './truststate.ts'

export interface Address {
  readonly host: string
  readonly port: number
}

/** Longer than every deadline of the robot that an attack waits for (CHANNEL 5.1, 6.3). */
const PATIENCE_MS = 30_000
const MAX_HEARD = 1024 * 1024

export const UPGRADE = `GET / HTTP/1.1\r\nHost: robot\r\nConnection: Upgrade\r\nUpgrade: ${TOKEN}\r\n\r\n`

export async function dial({ host, port }: Address): Promise<Socket> {
  const socket = connect({ host, port, noDelay: true })
  socket.on('error', () => {}) // reported by its close
  await new Promise((resolve) => socket.once('connect', resolve).once('close', resolve))
  return socket
}

/** Waits until the robot has closed the connection; `left-open` when it has not in time. */
export function closing(stream: Duplex, ms = PATIENCE_MS): Promise<'closed' | 'left-open'> {
  if (stream.closed) return Promise.resolve('closed')
  stream.resume()
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve('left-open'), ms)
    stream.once('close', () => {
      clearTimeout(timer)
      resolve('closed')
    })
  })
}

/** Collects what arrives from now on; returns a function that returns the text so far. */
function listen(stream: Duplex): () => string {
  let heard = ''
  stream.on('data', (chunk: Buffer) => {
    if (heard.length < MAX_HEARD) heard += chunk.toString('latin1')
  })
  return () => heard
}

/** Status codes of all HTTP answers in `heard`. */
export function statusCodes(heard: string): number[] {
  return [...heard.matchAll(/^HTTP\/1\.1 (\d{3}) /gm)].map(([, code]) => Number(code))
}

/** A stranger sends `bytes` and waits until the connection ends. `allowed` are status codes that everybody may get. */
export async function strangerSends(
  at: Address,
  bytes: string | Uint8Array,
  allowed: readonly number[] = [],
): Promise<Answer> {
  const socket = await dial(at)
  const heard = listen(socket)
  socket.write(bytes)
  const end = await closing(socket)
  socket.destroy()
  const codes = statusCodes(heard()).filter((code) => !allowed.includes(code))
  if (codes.length === 0) return end
  return codes.every((code) => code === 404) ? '404' : 'accepted'
}

/** A connection after the answer 101, with the challenge from that answer. No message of the handshake was sent yet. */
export async function upgraded(at: Address): Promise<{ socket: Socket; challenge: Buffer }> {
  const socket = await dial(at)
  const intake = new Intake(socket, Buffer.alloc(0))
  socket.write(UPGRADE)
  const challenge = challengeOf(await intake.head())
  intake.release()
  socket.on('error', () => {})
  return { socket, challenge }
}

/** Changes one write of the laptop. `write` 0 is the upgrade request, 1 is message 1, 2 the confirmation; frames follow. */
export type Bend = (bytes: Buffer, write: number) => readonly Buffer[]

/** Client options whose connection records what the laptop sends, and sends what `bend` returns instead. */
export function tapped(options: ClientOptions, bend: Bend = (bytes) => [bytes]) {
  const sent: Buffer[] = []
  const tap = async () => {
    const socket = await dial(options)
    const write = socket.write.bind(socket) as (bytes: Buffer) => boolean
    socket.write = ((bytes: Buffer) => {
      const number = sent.push(Buffer.from(bytes)) - 1
      return bend(bytes, number).reduce((_, part) => write(part), true)
    }) as Socket['write']
    return socket
  }
  return { sent, options: { ...options, dial: tap } }
}

export async function openSession(options: ClientOptions): Promise<SecureSocket> {
  const socket = await connectSession(options)
  socket.on('error', () => {}) // reported by its close
  return socket
}

/** A stream in a session of its own, which ends with it. */
export async function openStream(options: ClientOptions): Promise<Duplex> {
  const session = await openSession(options)
  const stream = new Mux({ session, initiator: true }).open()
  return stream.on('error', () => {}).on('close', () => session.destroy())
}

/** The code with which `work` is refused; `accepted` when it is not. */
export async function refusal(work: () => Promise<unknown>): Promise<Answer> {
  try {
    await work()
    return 'accepted'
  } catch (error) {
    if (error instanceof Refusal) return error.code
    throw error
  }
}

export interface SendOptions {
  /** End the sending side after these bytes. */
  halfClose?: boolean
  /** After them a byte a second of these. */
  thenBytewise?: Uint8Array
  /** More good answers than this mean that the attack got through. */
  served?: number
}

/** Sends HTTP in a session. Returns the refusal code of the answer, or how the session ended. */
export async function sessionSends(
  options: ClientOptions,
  bytes: readonly (string | Uint8Array)[],
  { halfClose = false, served = 0, thenBytewise }: SendOptions = {},
): Promise<Answer> {
  const socket = await openStream(options)
  const heard = listen(socket)
  for (const part of bytes) socket.write(part)
  if (halfClose) socket.end()
  let at = 0
  const drip = thenBytewise && setInterval(() => socket.write(thenBytewise.subarray(at, ++at)), 1000)
  const coded = new Promise<'answered'>((resolve) => {
    socket.on('data', () => codeIn(heard()) !== undefined && resolve('answered'))
  })
  try {
    const end = await Promise.race([closing(socket), coded])
    const code = codeIn(heard())
    if (code !== undefined) return code
    const good = statusCodes(heard()).filter((status) => status < 300)
    if (good.length > served) return 'accepted'
    return end === 'closed' ? 'closed' : 'left-open'
  } finally {
    clearInterval(drip)
    socket.destroy()
  }
}

function codeIn(heard: string): RefusalCode | undefined {
  const [, text] = /"code":"([a-z-]+)"/.exec(heard) ?? []
  return REFUSAL_CODES.find((code) => code === text)
}

/** During a flood: whether a new session gets the robot's status within STATUS_MS. */
export async function statusMeanwhile(options: ClientOptions): Promise<'in-time' | 'late'> {
  const start = performance.now()
  try {
    const client = await RobotClient.connect({ ...options, timeoutMs: STATUS_MS })
    try {
      await Promise.race([client.status(), sleep(STATUS_MS, undefined, { ref: false })])
    } finally {
      client.close()
    }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    return 'late'
  }
  return performance.now() - start < STATUS_MS ? 'in-time' : 'late'
}

/** Waits until `wanted` streams are closed, for at most PATIENCE_MS. Returns how many are closed. */
export async function closedOf(streams: readonly Duplex[], wanted: number): Promise<number> {
  for (const stream of streams) stream.resume()
  const until = performance.now() + PATIENCE_MS
  const count = () => streams.filter(({ closed }) => closed).length
  while (count() < wanted && performance.now() < until) await sleep(20)
  return count()
}
