/**
 * Opens sessions with a robot whose keys may have been rotated since this laptop learned them. Invariant: other keys are used only
 * if the identity that the laptop knows signed them, in a later certificate (CHANNEL 3.12; test/deploy/laptop/opensession.test.ts).
 */
import type { Certificate, SignedCertificate } from '../shared/cert.ts'
import { type ConnectOptions, connectSession } from '../shared/channel/connect.ts'
import type { SecureSocket } from '../shared/channel/socket.ts'
import { Refusal } from '../shared/errors.ts'
import { askCard, greet, OtherVersion } from './greeting.ts'

export interface SessionOptions extends ConnectOptions {
  /** Called when the robot has proven newer keys, which its known identity signed: keep this certificate. */
  renewed?: (card: SignedCertificate) => Promise<void>
}

export interface Opened<T> {
  session: SecureSocket
  /** the options that led to the session: with the robot's present certificate */
  options: T
}

/** How long the questions after a failed handshake may take. */
const ASK_MS = 1000

/** Throws as {@link connectSession} does, and `robot-mismatch` when another robot has the address. */
export async function openSession<T extends SessionOptions>(options: T): Promise<Opened<T>> {
  try {
    return { session: await connectSession(options), options }
  } catch (error) {
    if (!(error instanceof Refusal) || error.code !== 'unknown-operator' || options.dial) throw error
    // It closes the connection without a reason. The greeting shows whether it has new keys, or is another robot.
    const there = await greet(options.host, options.port, ASK_MS).catch((error) => {
      if (error instanceof OtherVersion) throw error // before anything else is guessed
      return null
    })
    if (there === null) throw error
    if (there.id === options.robot.id) return reopen(options, error)
    const at = `${options.host}:${options.port}`
    const message =
      `${at} is not ${options.robot.name} (${options.robot.id}): it calls itself ${there.name} (${there.id}). ` +
      'Nothing was sent to it'
    throw new Refusal(
      'robot-mismatch',
      message,
      `if it is another robot, find yours: medulla robots; if yours was made anew, and you know that: medulla pair ${at} --replace`,
      { cause: error },
    )
  }
}

async function reopen<T extends SessionOptions>(options: T, error: Refusal): Promise<Opened<T>> {
  const card = await askCard(options.host, options.port, ASK_MS).catch(() => null)
  const robot = card === null ? null : await laterCertificate(card, options.robot)
  if (card === null || robot === null) throw error
  const renewed = { ...options, robot }
  const session = await connectSession(renewed)
  await options.renewed?.(card)
  return { session, options: renewed }
}

/** The certificate in `card`, if the same identity signed it after `known`; null otherwise. Throws nothing. */
export async function laterCertificate(
  card: SignedCertificate,
  known: Pick<Certificate, 'key' | 'created'>,
): Promise<(Certificate & { id: string }) | null> {
  // loaded here, because a push by known keys does not need it
  const { verifyCertificate } = await import('../shared/cert.ts')
  try {
    const found = verifyCertificate(card)
    const isLater = Date.parse(found.created) > Date.parse(known.created)
    return found.subject === 'robot' && found.key === known.key && isLater ? found : null
  } catch {
    return null
  }
}
