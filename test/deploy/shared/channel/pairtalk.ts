/** A laptop in a pairing, up to the end of the handshake: the messages after it are the test's. */
import type { SignedCertificate } from '../../../../deploy/shared/cert.ts'
import { Opener, Sealer } from '../../../../deploy/shared/channel/frame.ts'
import { encodeCard, encodeMessage, Intake } from '../../../../deploy/shared/channel/handshake.ts'
import { keyPair } from '../../../../deploy/shared/channel/index.ts'
import { Handshake } from '../../../../deploy/shared/channel/noise.ts'
import { PairTalk, pairPrologue } from '../../../../deploy/shared/channel/pairing.ts'
import { upgraded } from './peers.ts'

/** `card`: another one than that of the key. The test closes the socket. */
export async function talkTo(
  port: number,
  who: { noiseSecret: Uint8Array; card: SignedCertificate },
  card: SignedCertificate = who.card,
) {
  const { socket, challenge } = await upgraded(port, 'medulla-pair/1')
  const intake = new Intake(socket, Buffer.alloc(0))
  const prologue = pairPrologue('medulla-pair/1', challenge)
  const handshake = new Handshake({ pattern: 'XX', initiator: true, prologue, static: keyPair(who.noiseSecret) })
  socket.write(encodeMessage(handshake.write(new Uint8Array(0))))
  handshake.read(await intake.message(20_000))
  socket.write(encodeMessage(handshake.write(encodeCard(card))))
  const { send, receive, hash } = handshake.split()
  const sealer = new Sealer(send)
  const talk = new PairTalk(intake, sealer, new Opener(receive))
  return { socket, talk, sealer, hash }
}
