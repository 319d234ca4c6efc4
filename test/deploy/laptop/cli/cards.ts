/** Cards of robots that do not exist, for tests of what the laptop does before it connects. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { issueCertificate, type SignedCertificate } from '../../../../deploy/shared/cert.ts'
import { generateAgeIdentity, generateKey, generateNoiseKey } from '../../../../deploy/shared/keys.ts'
import { certificateOf } from '../../../fixtures/cards.ts'

export async function robotCard(name: string): Promise<{ signed: SignedCertificate; id: string }> {
  const dir = mkdtempSync(join(tmpdir(), 'medulla-card-'))
  try {
    const signer = await generateKey(join(dir, 'key'), name)
    const signed = await issueCertificate(
      certificateOf('robot', name, signer, generateNoiseKey().public, { age: (await generateAgeIdentity()).recipient }),
      signer,
    )
    return { signed, id: signer.fingerprint }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}
