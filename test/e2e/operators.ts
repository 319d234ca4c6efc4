/** Operators of a test robot: a key of ssh, a key for sessions, and the card that names both. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { issueCertificate, type SignedCertificate } from '../../deploy/shared/cert.ts'
import { generateKey, generateNoiseKey, type Signer } from '../../deploy/shared/keys.ts'
import { certificateOf } from '../fixtures/cards.ts'

export interface Operator {
  signer: Signer
  keyFile: string
  noiseSecret: Uint8Array
  card: SignedCertificate
  cardFile: string
}

export async function makeOperator(folder: string, name: string): Promise<Operator> {
  const keyFile = join(folder, name)
  const signer = await generateKey(keyFile, name)
  const noise = generateNoiseKey()
  const card = await issueCertificate(certificateOf('operator', name, signer, noise.public), signer)
  const cardFile = join(folder, `${name}.card.json`)
  writeFileSync(cardFile, JSON.stringify(card))
  return { signer, keyFile, noiseSecret: noise.secret, card, cardFile }
}
