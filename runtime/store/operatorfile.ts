/** Reads an operator's certificate, or the line of an OpenSSH public key. */
import { readFile } from 'node:fs/promises'
import { type SignedCertificate, verifyCertificate } from '../../deploy/shared/cert.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import { fingerprint, publicKeyLine } from '../../deploy/shared/keys.ts'

const KEY = /^(?:ssh-ed25519|sk-ssh-ed25519@openssh\.com) /

/** `file` may be such a line itself. Throws Refusal `usage` for a file that cannot be read. */
export async function readOperator(file: string): Promise<SignedCertificate | string> {
  if (KEY.test(file)) return file
  const hint = 'on the laptop: medulla trust --export > me.json'
  try {
    const written = (await readFile(file, 'utf8')).trim()
    return written.startsWith('{') ? (JSON.parse(written) as SignedCertificate) : written
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code ?? 'it is not JSON'
    throw new Refusal('usage', `cannot read an operator's card from ${file}: ${why}`, hint, { cause })
  }
}

/** Throws Refusal as verifyCertificate does, and `usage` for the certificate of a robot. */
export function fingerprintOf(operator: SignedCertificate | string): string {
  if (typeof operator === 'string') return fingerprint(publicKeyLine(operator))
  const { subject, id } = verifyCertificate(operator)
  if (subject === 'operator') return id
  throw new Refusal(
    'usage',
    "this is the card of a robot, expected an operator's",
    'on the laptop: medulla trust --export',
  )
}
