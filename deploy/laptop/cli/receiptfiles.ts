/** Files of `medulla receipts`: a saved log, the card of its robot, and a note about its head that a witness signed. */
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import type { SignedReceipt } from '../../shared/api.ts'
import { LIMITS } from '../../shared/bundle/limits.ts'
import { fingerprint, verify } from '../../shared/bundle/sshsig.ts'
import { type SignedCertificate, verifyCertificate } from '../../shared/cert.ts'
import { Refusal } from '../../shared/errors.ts'
import { encodeHeadNote, HEAD_NAMESPACE, type HeadNote, MAX_HEAD_NOTE, parseHeadNote } from '../../shared/headnote.ts'
import { publicKeyLine, type Signer } from '../../shared/keys.ts'

/** Bytes of a saved log. */
const MAX_SAVED = 40 * 1024 * 1024

export function saveReceipts(file: string, signed: readonly SignedReceipt[]): void {
  writeNew(file, signed.map((entry) => `${JSON.stringify(entry)}\n`).join(''))
}

function writeNew(file: string, text: string): void {
  try {
    writeFileSync(file, text, { flag: 'wx' })
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const why = code === 'EEXIST' ? 'is there already' : `cannot be written: ${code}`
    throw new Refusal('usage', `${file} ${why}`, 'name another file: it is never replaced')
  }
}

function read(file: string, max: number): string {
  try {
    if (statSync(file).size > max) throw new Refusal('too-large', `${file} has more than ${max} bytes`)
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (error instanceof Refusal) throw error
    const { code } = error as NodeJS.ErrnoException
    const why = code === 'ENOENT' ? 'there is no such file' : code
    throw new Refusal('usage', `cannot read ${file}: ${why}`, 'medulla receipts --help has an example with each file')
  }
}

/** Key and id of the robot whose card is in this file. */
export function readCard(file: string): { key: string; id: string } {
  const text = read(file, LIMITS.certificate * 2)
  let card: SignedCertificate
  try {
    card = JSON.parse(text)
  } catch (cause) {
    throw new Refusal('usage', `${file} is not a card`, 'on the robot it is robot.json in its home', { cause })
  }
  const { key, subject } = verifyCertificate(card)
  if (subject !== 'robot') throw new Refusal('usage', `${file} is the card of an operator, expected that of a robot`)
  return { key, id: fingerprint(key) }
}

/** The lines as {@link saveReceipts} wrote them; a damaged one is kept, so that the verification names it. */
export function readReceipts(file: string): SignedReceipt[] {
  const lines = read(file, MAX_SAVED).split('\n')
  return lines.filter(Boolean).map((line) => {
    try {
      const { receipt, sig } = JSON.parse(line) as SignedReceipt
      return { receipt: String(receipt), sig: String(sig) }
    } catch {
      return { receipt: line, sig: '' }
    }
  })
}

/** Writes the note and its signature. */
export async function signHead(file: string, note: HeadNote, signer: Signer): Promise<void> {
  const text = encodeHeadNote(note)
  const signature = await signer.sign(HEAD_NAMESPACE, Buffer.from(text))
  writeNew(file, text)
  writeNew(`${file}.sig`, signature)
}

/** The head in a note that a witness signed (BUNDLE 18.3). */
export function readSignedHead(file: string, robot: string, wanted: string | undefined): HeadNote & { signer: string } {
  const text = read(file, MAX_HEAD_NOTE)
  const signature = read(`${file}.sig`, LIMITS.signature)
  const { publicKey, fingerprint: signer } = verify(signature, HEAD_NAMESPACE, Buffer.from(text))
  if (wanted !== undefined && publicKeyLine(read(wanted, LIMITS.certificate)) !== publicKey) {
    throw new Refusal('bad-signature', `${file} is signed by ${signer}, not by the key in ${wanted}`)
  }
  const note = parseHeadNote(text)
  if (note.robot !== robot) throw new Refusal('wrong-robot', `${file} is about ${note.robot}, not ${robot}`)
  return { ...note, signer }
}
