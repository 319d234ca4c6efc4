/**
 * The robot's side of a pairing, without the code: what is secret stays behind {@link PairingBody}. Invariant: SPAKE2 begins only after
 * the laptop has proven the Noise key of its card (test/deploy/shared/channel/pairing.test.ts).
 */
import type { Duplex } from 'node:stream'
import { type SignedCertificate, verifyCertificate } from '../cert.ts'
import { Refusal } from '../errors.ts'
import { Opener, Sealer } from './frame.ts'
import { decodeCard, encodeCard, encodeMessage, Intake } from './handshake.ts'
import { Handshake } from './noise.ts'
import {
  MAX_PAIR_MESSAGE_3,
  PAIR_MESSAGE_1,
  type PairForm,
  PairTalk,
  pairPrologue,
  readBytes,
  toText,
} from './pairing.ts'
import { CONFIRM_LENGTH, SHARE_LENGTH } from './spake2.ts'
import type { KeyPair } from './x25519.ts'

/** The body's part, which holds the code and judges (CHANNEL 9.7). Each method rejects with a Refusal, which the laptop is told. */
export interface PairingBody {
  /** The robot's card; refused outside a pairing window. */
  card(): Promise<SignedCertificate>
  /** `card` and `share` are the laptop's, `hash` is that of the whole handshake. */
  share(card: SignedCertificate, hash: Uint8Array, share: Uint8Array): Promise<{ attempt: number; share: Uint8Array }>
  /** `answer` is sealed for the laptop. */
  confirm(attempt: number, confirm: Uint8Array): Promise<{ confirm: Uint8Array; answer: Uint8Array }>
}

export interface AcceptPairingOptions {
  /** the transport after the answer 101 */
  raw: Duplex
  /** bytes that came with the request */
  head: Buffer
  /** the challenge in that answer */
  challenge: Uint8Array
  noise: KeyPair
  form: PairForm
  body: PairingBody
  /** Called when the laptop has proven its static key; false refuses the connection (CHANNEL 5.2). */
  present: () => boolean
}

/** Resolves to the name in the card of the laptop that was paired. Rejects with the reason, for the robot's log only. */
export async function acceptPairing({
  raw,
  head,
  challenge,
  noise,
  form,
  body,
  present,
}: AcceptPairingOptions): Promise<string> {
  const intake = new Intake(raw, head)
  // The robot chooses the pattern: a laptop cannot ask for another one (CHANNEL 9.1).
  const { token, ...pattern } = form
  const prologue = pairPrologue(token, challenge)
  const handshake = new Handshake({ ...pattern, initiator: false, prologue, static: noise })
  if (handshake.read(await intake.message(PAIR_MESSAGE_1)).length > 0) throw new Error('message 1 has a payload')
  raw.write(encodeMessage(handshake.write(encodeCard(await body.card()))))
  const card = decodeCard(handshake.read(await intake.message(MAX_PAIR_MESSAGE_3)))
  const { name } = checkCard(card, 'operator', handshake.remoteStatic)
  if (!present()) throw new Error('no place for this key')
  const { send, receive, hash } = handshake.split()
  const talk = new PairTalk(intake, new Sealer(send), new Opener(receive))
  /** Sends the last message. What comes after it is read and dropped, so that the connection can close. */
  const finish = (message: Buffer) => {
    raw.end(message)
    intake.release()
    raw.on('error', () => {}).resume()
  }
  /** The body's refusals are for the laptop's user: inside the window, and after the handshake, they are no secret. */
  const asked = async <T>(answer: Promise<T>): Promise<T> => {
    try {
      return await answer
    } catch (error) {
      finish(talk.sealRefusal(error instanceof Refusal ? error : new Refusal('internal', 'the robot failed')))
      throw error
    }
  }
  const first = await talk.read('share')
  const { attempt, share } = await asked(body.share(card, hash, readBytes(first.share, SHARE_LENGTH)))
  raw.write(talk.seal({ share: toText(share) }))
  const second = await talk.read('confirm')
  const { confirm, answer } = await asked(body.confirm(attempt, readBytes(second.confirm, CONFIRM_LENGTH)))
  finish(talk.seal({ confirm: toText(confirm), answer: toText(answer) }))
  return name
}

/** The card must name exactly the static key that its sender has proven in the handshake (CHANNEL 9.5). Throws otherwise. */
export function checkCard(card: SignedCertificate, subject: 'robot' | 'operator', proven: Uint8Array | undefined) {
  const certificate = verifyCertificate(card)
  if (certificate.subject !== subject) throw new Error(`the card of a ${certificate.subject}, expected a ${subject}`)
  if (proven === undefined || certificate.noise !== toText(proven)) throw new Error('the card names another Noise key')
  return certificate
}
