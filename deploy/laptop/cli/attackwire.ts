/** Raw bytes to a robot's port and into its sessions: what `medulla attack` sends, and what comes back. */
import { connect, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { connectSession } from '../../shared/channel/connect.ts'
import { challengeOf, Intake, TOKEN } from '../../shared/channel/handshake.ts'
import type { SecureSocket } from '../../shared/channel/socket.ts'
import { REFUSAL_CODES, Refusal, type RefusalCode } from '../../shared/errors.ts'
import { type ClientOptions, RobotClient } from '../client.ts'
import { type Answer, STATUS_MS } from './truststate.ts'

export interface Address {
  readonly host: string
  readonly port: number
}

/** Every deadline of the robot that an attack waits for is shorter (CHANNEL 5.1, 6.3). */
const PATIENCE_MS = 30_000
const MAX_HEARD = 1024 * 1024

export const UPGRADE = `GET / HTTP/1.1\r\nHost: robot\r\nConnection: Upgrade\r\nUpgrade: ${TOKEN}\r\n\r\n`

export async function dial({ host, port }: Address): Promise<Socket> {
  const socket = connect({ host, port, noDelay: true })
  socket.on('error', () => {}) // reported by its close
  await new Promise((resolve) => socket.once('connect', resolve).once('close', resolve))
  return socket
}

/** `left-open` when the robot has not closed the connection in time. */
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

/** Keeps what comes from now on. */
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

/** A stranger sends `bytes` and waits for the end. `allowed` are the HTTP answers that everybody gets. */
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

/** A connection that was answered 101, with its challenge; nothing of the handshake was sent. */
export async function upgraded(at: Address): Promise<{ socket: Socket; challenge: Buffer }> {
  const socket = await dial(at)
  const intake = new Intake(socket, Buffer.alloc(0))
  socket.write(UPGRADE)
  const challenge = challengeOf(await intake.head())
  intake.release()
  socket.on('error', () => {})
  return { socket, challenge }
}

/** What the laptop writes, by write: 0 is the upgrade, 1 message 1, 2 the confirmation, then frames. */
export type Bend = (bytes: Buffer, write: number) => readonly Buffer[]

/** `options` over a wire that records what the laptop sends, and lets `bend` send something else instead. */
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

/** As `work` is refused: `accepted` when it is not. */
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
  /** Nothing comes after these bytes. */
  halfClose?: boolean
  /** How many good answers are no success. */
  served?: number
}

/** HTTP in a session: the code of the answer, or how it ended. */
export async function sessionSends(
  options: ClientOptions,
  bytes: readonly (string | Uint8Array)[],
  { halfClose = false, served = 0 }: SendOptions = {},
): Promise<Answer> {
  const socket = await openSession(options)
  const heard = listen(socket)
  for (const part of bytes) socket.write(part)
  if (halfClose) socket.end()
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
    socket.destroy()
  }
}

function codeIn(heard: string): RefusalCode | undefined {
  const [, text] = /"code":"([a-z-]+)"/.exec(heard) ?? []
  return REFUSAL_CODES.find((code) => code === text)
}

/** A flood goes on meanwhile: a new session of `options` has to be told the status in time. */
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

/** How many are closed when at least `wanted` are, or when time is over. */
export async function closedOf(streams: readonly Duplex[], wanted: number): Promise<number> {
  for (const stream of streams) stream.resume()
  const until = performance.now() + PATIENCE_MS
  const count = () => streams.filter(({ closed }) => closed).length
  while (count() < wanted && performance.now() < until) await sleep(20)
  return count()
}
