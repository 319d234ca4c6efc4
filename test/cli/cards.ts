/** Cards of robots that do not exist, for tests of what the laptop does before it connects. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { issueCertificate, type SignedCertificate } from '../../deploy/shared/cert.ts'
import { generateAgeIdentity, generateKey, generateNoiseKey } from '../../deploy/shared/keys.ts'

export async function robotCard(name: string): Promise<{ signed: SignedCertificate; id: string }> {
  const dir = mkdtempSync(join(tmpdir(), 'medulla-card-'))
  try {
    const signer = await generateKey(join(dir, 'key'), name)
    const signed = await issueCertificate(
      {
        format: 'medulla-cert/1',
        subject: 'robot',
        name,
        key: signer.publicKey,
        noise: Buffer.from(generateNoiseKey().public).toString('base64'),
        age: (await generateAgeIdentity()).recipient,
        created: new Date().toISOString(),
      },
      signer,
    )
    return { signed, id: signer.fingerprint }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}
