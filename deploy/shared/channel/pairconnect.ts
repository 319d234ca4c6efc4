/**
 * The laptop's side of a pairing. Invariant: nothing about the robot is returned for keeping before the robot has proven that it
 * knows the code (test/deploy/shared/channel/pairing.test.ts).
 */
import { timingSafeEqual } from 'node:crypto'
import type { Duplex } from 'node:stream'
import type { Certificate, SignedCertificate } from '../cert.ts'
import { Refusal } from '../errors.ts'
import { timeScale } from '../timescale.ts'
import { dial, reasonOf, unreachable, upgradeRequest } from './connect.ts'
import { Opener, Sealer } from './frame.ts'
import { challengeOf, decodeCard, encodeCard, encodeMessage, Intake } from './handshake.ts'
import { Handshake, type Split } from './noise.ts'
import { checkCard } from './pairaccept.ts'
import {
  MAX_PAIR_MESSAGE_2,
  openAnswer,
  PAIR_MS,
  type PairAnswer,
  PairTalk,
  pairFormOf,
  pairPrologue,
  pairScalar,
  readBytes,
  toText,
} from './pairing.ts'
import { agree, CONFIRM_LENGTH, makeShare, SHARE_LENGTH } from './spake2.ts'
import { keyPair } from './x25519.ts'

export interface PairOptions {
  host: string
  port: number
  /** the operator's Noise secret */
  noiseSecret: Uint8Array
  /** the operator's card, with the public key of that secret */
  cert: SignedCertificate
  /** the pre-shared key of this robot: with it, no other form is tried */
  psk?: Uint8Array
  timeoutMs?: number
}

/** A robot as it introduces itself: with its card, which proves nothing about who it is. */
export interface Introduced {
  card: SignedCertificate
  robot: Certificate & { id: string }
}
export interface Paired extends Introduced {
  answer: PairAnswer
}

/**
 * Asks who pairs at the address, and uses up no try. Throws Refusal `not-pairing` (its window is closed) and `unreachable`. The card
 * is not proven to be that of the robot which shows the code.
 */
export function introduce(options: PairOptions): Promise<Introduced> {
  return connected(options, async ({ introduced }) => introduced)
}

/**
 * Throws Refusal as {@link introduce}, and `wrong-code` with the tries that are left, as the robot says, or `robot-mismatch` when the
 * peer does not know the code.
 */
export function pair(options: PairOptions, code: string): Promise<Paired> {
  return connected(options, async ({ introduced, handshake, raw, intake }) => {
    raw.write(encodeMessage(handshake.write(encodeCard(options.cert))))
    const { send, receive, hash }: Split = handshake.split()
    const talk = new PairTalk(intake, new Sealer(send), new Opener(receive))
    const w = pairScalar(code)
    const own = makeShare('A', w)
    raw.write(talk.seal({ share: toText(own.bytes) }))
    const theirs = readBytes((await talk.read('share')).share, SHARE_LENGTH)
    const [idA, idB] = [Buffer.from(options.cert.cert), Buffer.from(introduced.card.cert)]
    const { key, confirmA, confirmB } = agree({ side: 'A', w, own, theirs, idA, idB, aad: hash })
    raw.write(talk.seal({ confirm: toText(confirmA) }))
    const last = await talk.read('confirm', 'answer')
    // only who knows the code can have made it; before this, nothing of the robot is kept (CHANNEL 9.9)
    if (!timingSafeEqual(readBytes(last.confirm, CONFIRM_LENGTH), confirmB)) {
      throw new Refusal(
        'robot-mismatch',
        `${whereOf(options)} does not know the code: it is not the robot that shows it`,
        'check the address; on the robot, open a new window: sudo medulla pair --allow',
      )
    }
    return { ...introduced, answer: openAnswer(key, hash, Buffer.from(last.answer, 'base64')) }
  })
}

interface Connected {
  introduced: Introduced
  /** Before message 3. */
  handshake: Handshake
  raw: Duplex
  intake: Intake
}

async function connected<T>(options: PairOptions, use: (connected: Connected) => Promise<T>): Promise<T> {
  const { host, port, psk } = options
  const timeoutMs = options.timeoutMs ?? PAIR_MS * timeScale()
  const where = whereOf(options)
  let [raw, late, reached]: [Duplex | undefined, boolean, boolean] = [undefined, false, false]
  const timer = setTimeout(() => {
    late = true
    raw?.destroy()
  }, timeoutMs)
  const { token, ...pattern } = pairFormOf(psk)
  try {
    const open = await dial(host, port, (socket) => {
      raw = socket
    })
    raw = open
    const intake = new Intake(open, Buffer.alloc(0))
    open.write(upgradeRequest(host, port, token))
    const head = await intake.head()
    if (/^HTTP\/1\.1 404 /.test(head)) throw closed(options)
    if (!/^HTTP\/1\.1 101 /.test(head)) throw new Error(`answered ${head.slice(0, 30).split('\r\n')[0]}`)
    const prologue = pairPrologue(token, challengeOf(head))
    const own = keyPair(options.noiseSecret)
    const handshake = new Handshake({ ...pattern, initiator: true, prologue, static: own })
    open.write(encodeMessage(handshake.write(new Uint8Array(0))))
    const card = decodeCard(handshake.read(await intake.message(MAX_PAIR_MESSAGE_2)))
    const robot = ownCard(card, handshake, where)
    reached = true
    return await use({ introduced: { card, robot }, handshake, raw: open, intake })
  } catch (cause) {
    if (cause instanceof Refusal) throw cause
    if (reached && !late) {
      const hint =
        psk === undefined ? 'try again: medulla pair' : 'check that the robot has the same pre-shared key (--psk)'
      throw new Refusal('not-pairing', `${where} ended the pairing without giving a reason`, hint, { cause })
    }
    throw unreachable(where, late ? `no answer in ${timeoutMs} ms` : reasonOf(cause), cause)
  } finally {
    clearTimeout(timer)
    raw?.destroy()
  }
}

/** Throws Refusal `robot-mismatch` for a card that is not that of the peer (CHANNEL 9.5). */
function ownCard(card: SignedCertificate, { remoteStatic }: Handshake, where: string): Introduced['robot'] {
  try {
    return checkCard(card, 'robot', remoteStatic)
  } catch (cause) {
    const message = `${where} sent a card that is not its own: ${(cause as Error).message}`
    throw new Refusal('robot-mismatch', message, 'check the address: somebody may be between', { cause })
  }
}

const whereOf = ({ host, port }: PairOptions): string => `${host}:${port}`

/** The robot answers 404 outside a window, and to the form that it does not speak (CHANNEL 9.1): nothing tells the two apart. */
function closed(options: PairOptions): Refusal {
  const psk =
    options.psk === undefined
      ? ' (if it has a pre-shared key, add --psk FILE here)'
      : ' (if it has no pre-shared key, leave out --psk here)'
  return new Refusal(
    'not-pairing',
    `${whereOf(options)} does not pair now: its pairing window is closed`,
    `for a code, on the robot: sudo medulla pair --allow${psk}`,
  )
}
