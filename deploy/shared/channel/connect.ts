/**
 * The laptop's side of the handshake. Invariant: before the robot has proven the Noise key of its card, the laptop sends nothing
 * but its own card (test/deploy/shared/channel/session.test.ts). The CLI loads this file at its start, so it imports little.
 */
import { connect as netConnect } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Certificate, SignedCertificate } from '../cert.ts'
import { Refusal } from '../errors.ts'
import { timeScale } from '../timescale.ts'
import { Opener, Sealer } from './frame.ts'
import { FreshKeys } from './freshkeys.ts'
import {
  challengeOf,
  encodeCard,
  encodeMessage,
  formOf,
  HANDSHAKE_MS,
  Intake,
  MESSAGE_2,
  prologue,
} from './handshake.ts'
import { Handshake } from './noise.ts'
import { SecureSocket } from './socket.ts'
import { keyPair } from './x25519.ts'

export interface ConnectOptions {
  host: string
  port: number
  /** returns a connected stream to the robot; replaces TCP to host and port */
  dial?: () => Duplex | Promise<Duplex>
  /** the operator's Noise secret */
  noiseSecret: Uint8Array
  /** the pre-shared key of this robot; without it on both ends, or on none, there is no session (CHANNEL 3.10) */
  psk?: Uint8Array
  /** the operator's card, with the public key of that secret */
  cert: SignedCertificate
  /** the robot's verified card */
  robot: Certificate & { id: string }
  timeoutMs?: number
}

/**
 * Throws Refusal: `unreachable` (no answer, or the answer of something else), `robot-mismatch` (it could not prove to be the
 * robot of the card), `unknown-operator` (it closed the connection after message 1, which robots do for any fault of it).
 */
export async function connectSession(options: ConnectOptions): Promise<SecureSocket> {
  const timeoutMs = options.timeoutMs ?? HANDSHAKE_MS * timeScale()
  const where = `${options.host}:${options.port}`
  let late = false
  let raw: Duplex | undefined
  const timer = setTimeout(() => {
    late = true
    raw?.destroy()
  }, timeoutMs)
  const { token, ...pattern } = formOf(options.psk)
  let stage: 'dial' | 'upgrade' | 'prove' = 'dial'
  try {
    raw = await (options.dial?.() ??
      dial(options.host, options.port, (socket) => {
        raw = socket
      }))
    if (late) throw new Error('too late')
    stage = 'upgrade'
    const intake = new Intake(raw, Buffer.alloc(0))
    raw.write(upgradeRequest(options.host, options.port, token))
    // computed while the answer is on its way
    const own = keyPair(options.noiseSecret)
    const head = await intake.head()
    // no other form is tried (CHANNEL 3.10)
    if (/^HTTP\/1\.1 404 /.test(head)) throw otherForm(where, options)
    if (!/^HTTP\/1\.1 101 /.test(head)) throw new Error(`answered ${head.slice(0, 30).split('\r\n')[0]}`)
    const remoteStatic = Buffer.from(options.robot.noise, 'base64')
    const handshake = new Handshake({
      ...pattern,
      initiator: true,
      prologue: prologue(options.robot.id, challengeOf(head), token),
      static: own,
      remoteStatic,
    })
    stage = 'prove'
    raw.write(encodeMessage(handshake.write(encodeCard(options.cert)))) // only after the answer 101 (CHANNEL 2.4)
    const message2 = await intake.message(MESSAGE_2)
    try {
      handshake.read(message2)
    } catch (cause) {
      // message 2 does not open: the peer does not have the key of the card (CHANNEL 3.5)
      throw new Refusal(
        'robot-mismatch',
        `${where} could not prove to be ${options.robot.name} (${options.robot.id})`,
        options.psk === undefined
          ? 'if the robot was set up again, trust its new card: medulla trust'
          : 'if the robot has another pre-shared key: medulla psk set; if it was set up again, trust its new card: medulla trust',
        { cause },
      )
    }
    const keys = handshake.split()
    const sealer = new Sealer(keys.send)
    raw.write(sealer.confirm()) // the robot waits for this frame before it opens the session (CHANNEL 3.6)
    return new SecureSocket({
      raw,
      sealer,
      opener: new Opener(keys.receive),
      head: intake.release(),
      allowHalfOpen: false,
      fresh: new FreshKeys({ initiator: true, form: pattern, static: own, remoteStatic, hash: keys.hash }),
    })
  } catch (cause) {
    raw?.destroy()
    if (cause instanceof Refusal) throw cause
    if (stage === 'prove' && !late) {
      throw new Refusal(
        'unknown-operator',
        `${where} closed the connection without giving a reason`,
        'give an owner your card (medulla trust --export): medulla operators add CARD',
        { cause },
      )
    }
    throw unreachable(where, late ? `no answer in ${timeoutMs} ms` : reasonOf(cause), cause)
  } finally {
    clearTimeout(timer)
  }
}

export function unreachable(where: string, reason: string, cause: unknown): Refusal {
  const hint = 'check that the robot is on and the address is right: medulla robots'
  return new Refusal('unreachable', `no robot at ${where}: ${reason}`, hint, { cause })
}

/** Errors of the network in words; others unchanged. */
const NETWORK: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens on that port',
  ECONNRESET: 'it closed the connection',
  EHOSTUNREACH: 'no computer has that address',
  ENETUNREACH: 'this computer is in no network with that address',
  ENOTFOUND: 'no computer has that name',
  EAI_AGAIN: 'no computer has that name',
  ETIMEDOUT: 'no computer has that address',
}

export function reasonOf(error: unknown): string {
  const { code = '', message } = error as NodeJS.ErrnoException
  const words = Object.hasOwn(NETWORK, code) ? NETWORK[code] : undefined
  return words === undefined ? message : `${words} (${code})`
}

export function dial(host: string, port: number, started: (socket: Duplex) => void): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = netConnect({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 15_000 })
    started(socket)
    const lost = () => reject(new Error('the connection was closed'))
    socket.once('error', reject).once('close', lost)
    socket.once('connect', () => {
      socket.off('error', reject).off('close', lost)
      resolve(socket)
    })
  })
}

/** The robot answers 404 to tokens that it does not take. Nothing was proven: the answer only words the error (CHANNEL 2.1). */
function otherForm(where: string, { psk, robot }: ConnectOptions): Refusal {
  return psk === undefined
    ? new Refusal(
        'unknown-operator',
        `${where} takes no session without a pre-shared key, and this laptop has none for ${robot.name}`,
        'medulla psk set',
      )
    : new Refusal(
        'unknown-operator',
        `${where} takes no session with a pre-shared key, and this laptop goes on with no less`,
        'set the key on the robot too; or, if the robot is to have none: medulla psk unset',
      )
}

export function upgradeRequest(host: string, port: number, token: string): Buffer {
  const name = host.includes(':') ? `[${host}]` : host
  return Buffer.from(`GET / HTTP/1.1\r\nHost: ${name}:${port}\r\nConnection: Upgrade\r\nUpgrade: ${token}\r\n\r\n`)
}
