import { expect, test } from 'vitest'
import { toBase64 } from '../../../deploy/shared/bundle/sshsig.ts'
import { encodeJson } from '../../../deploy/shared/bundle/strict.ts'
import {
  type Certificate,
  issueCertificate,
  type SignedCertificate,
  verifyCertificate,
} from '../../../deploy/shared/cert.ts'
import { generateAgeIdentity, generateNoiseKey, type Signer } from '../../../deploy/shared/keys.ts'
import { newSigner } from '../../fixtures/bundles.ts'
import { certificateOf } from '../../fixtures/cards.ts'
import { flip } from '../../fixtures/random.ts'
import { refusal } from '../../fixtures/tools.ts'

const { public: noise } = generateNoiseKey()
const { recipient: age } = await generateAgeIdentity()

function robotCert(signer: Signer, over: object = {}): Certificate {
  return certificateOf('robot', 'arm-1', signer, noise, { age, ...over })
}

async function signed(value: object, signer: Signer): Promise<SignedCertificate> {
  const bytes = encodeJson(value)
  return { cert: Buffer.from(bytes).toString(), sig: toBase64(await signer.sign('cert@medulla', bytes)) }
}

test('a certificate of a robot and one of an operator', async () => {
  const signer = newSigner()
  const cert = robotCert(signer)
  expect(verifyCertificate(await issueCertificate(cert, signer))).toEqual({ ...cert, id: signer.fingerprint })
  const { age: _, ...plain } = robotCert(signer, { subject: 'operator', name: 'me' })
  expect(verifyCertificate(await issueCertificate(plain, signer))).toEqual({ ...plain, id: signer.fingerprint })
})

test('BUNDLE 3.2: another signer than the key it names is refused', async () => {
  const [one, two] = [newSigner(), newSigner()]
  expect((await refusal(() => issueCertificate(robotCert(one), two))).code).toBe('bad-signature')
  const forged = await signed(robotCert(one), two)
  expect((await refusal(() => verifyCertificate(forged))).message).toContain('another key')
  const asRelease = toBase64(await one.sign('release@medulla', Buffer.from(forged.cert)))
  expect((await refusal(() => verifyCertificate({ cert: forged.cert, sig: asRelease }))).code).toBe('bad-signature')
})

test('BUNDLE 3.1, 1.2, 1.3: every field is checked, unknown ones are refused', async () => {
  const signer = newSigner()
  const wrong: [object, string, string][] = [
    [{ format: 'medulla-cert/2' }, 'unknown-format', 'medulla-cert/2'],
    [{ subject: 'owner' }, 'bad-bundle', 'subject'],
    [{ name: 'Arm 1' }, 'bad-bundle', 'name'],
    [{ name: 'a'.repeat(65) }, 'bad-bundle', 'name'],
    [{ key: 'ssh-rsa AAAA' }, 'bad-bundle', 'key'],
    [{ noise: Buffer.alloc(31).toString('base64') }, 'bad-bundle', 'noise'],
    [{ noise: `${'A'.repeat(42)}B=` }, 'bad-bundle', 'noise'],
    [{ age: age.slice(0, -1) + (age.endsWith('q') ? 'p' : 'q') }, 'bad-bundle', 'age'],
    [{ age: undefined }, 'bad-bundle', "missing key 'age'"],
    [{ subject: 'operator' }, 'bad-bundle', 'unknown key "age"'],
    [{ created: 'today' }, 'bad-bundle', 'created'],
    [{ admin: true }, 'bad-bundle', 'unknown key "admin"'],
  ]
  for (const [over, code, message] of wrong) {
    const refused = await refusal(async () => verifyCertificate(await signed(robotCert(signer, over), signer)))
    expect(refused.code, message).toBe(code)
    expect(refused.message).toContain(message)
  }
})

test('BUNDLE 3.3: size and shape come before the signature', async () => {
  const long = { cert: 'x'.repeat(8193), sig: 'AAAA' }
  expect((await refusal(() => verifyCertificate(long))).code).toBe('too-large')
  for (const odd of [null, undefined, {}, { cert: 1, sig: 2 }, { cert: '', sig: '' }, { cert: '', sig: 'AAAA' }]) {
    expect((await refusal(() => verifyCertificate(odd as unknown as SignedCertificate))).code).toBe('bad-signature')
  }
})

test('a flipped bit anywhere is refused', async () => {
  const signer = newSigner()
  const { cert, sig } = await issueCertificate(robotCert(signer), signer)
  for (let bit = 0; bit < cert.length * 8; bit += 3) {
    const changed = Buffer.from(flip(Buffer.from(cert), bit)).toString('latin1')
    expect((await refusal(() => verifyCertificate({ cert: changed, sig }))).code).toBe('bad-signature')
  }
})
