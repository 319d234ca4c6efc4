/**
 * The robot's side of the handshake. Invariant: a session only exists after a frame of the initiator was opened with the keys
 * of this handshake, and every refusal looks the same: the socket closes (test/deploy/shared/channel/session.test.ts).
 */
import type { Duplex } from 'node:stream'
import type { SignedCertificate } from '../cert.ts'
import { Opener, Sealer } from './frame.ts'
import { FreshKeys } from './freshkeys.ts'
import { decodeCard, encodeMessage, type Form, HANDSHAKE_MS, Intake, MAX_MESSAGE_1, prologue } from './handshake.ts'
import type { Peer } from './netsocket.ts'
import { Handshake, TAG_LENGTH } from './noise.ts'
import { SecureSocket } from './socket.ts'
import type { KeyPair } from './x25519.ts'

/** Returns the operator with this key and card; null for everybody else. */
export type Who = (noisePublic: Uint8Array, card: SignedCertificate | null) => Promise<Peer | null>

/** The keys that the initiator proved, for asking `Who` again when the operators change. */
export interface Identity {
  readonly noise: Uint8Array
  readonly card: SignedCertificate
}
export interface Accepted {
  readonly socket: SecureSocket
  readonly identity: Identity
}

export interface AcceptOptions {
  /** the transport after the answer 101 */
  raw: Duplex
  /** bytes that came with the request */
  head: Buffer
  /** the challenge in that answer: a first message that was made for another connection does not open (CHANNEL 3.1) */
  challenge: Uint8Array
  noise: KeyPair
  form: Form
  /** this robot's id */
  robot: string
  who: Who
  /** Called with the initiator's static key once message 1 was read; false refuses the connection (CHANNEL 5.3). */
  present?: (noisePublic: Uint8Array) => boolean
  deadlineMs?: number
}

/** Rejects with the reason, which is for the robot's log only; the transport is then closed, and the peer got no reason. */
export async function acceptSession(options: AcceptOptions): Promise<Accepted> {
  const { raw } = options
  const deadline = setTimeout(() => raw.destroy(), options.deadlineMs ?? HANDSHAKE_MS) // a stranger may not keep a place for longer (CHANNEL 5.1)
  try {
    return await accept(options)
  } catch (error) {
    raw.destroy() // without a reason, which would help strangers (CHANNEL 3.7)
    throw error
  } finally {
    clearTimeout(deadline)
  }
}

async function accept({ raw, head, challenge, noise, form, robot, who, present }: AcceptOptions): Promise<Accepted> {
  const intake = new Intake(raw, head)
  // The robot chooses the pattern: an initiator cannot ask for another one (CHANNEL 1.2, CHANNEL 3.10).
  const { token, ...pattern } = form
  const expected = prologue(robot, challenge, token)
  const handshake = new Handshake({ ...pattern, initiator: false, prologue: expected, static: noise })
  const card = decodeCard(handshake.read(await intake.message(MAX_MESSAGE_1)))
  const remote = handshake.remoteStatic
  if (!remote || present?.(remote) === false) throw new Error('no place for this key')
  const peer = await who(remote, card) // before the costly ee and se of message 2 (CHANNEL 3.3)
  if (!peer) throw new Error('unknown operator')
  if (raw.destroyed) throw new Error('the connection was closed')
  raw.write(encodeMessage(handshake.write(new Uint8Array(0))))
  const keys = handshake.split()
  const opener = new Opener(keys.receive)
  const first = opener.open(await intake.message(TAG_LENGTH)) // proves that the initiator has the keys of this handshake (CHANNEL 3.6)
  if (first.kind !== 'confirm') throw new Error('the first frame is not a confirmation')
  const socket = new SecureSocket({
    raw,
    sealer: new Sealer(keys.send),
    opener,
    head: intake.release(),
    allowHalfOpen: true,
    peer,
    fresh: new FreshKeys({ initiator: false, form: pattern, static: noise, remoteStatic: remote, hash: keys.hash }),
  })
  return { socket, identity: { noise: remote, card } }
}
