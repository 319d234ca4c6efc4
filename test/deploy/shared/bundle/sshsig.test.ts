import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import {
  armor,
  fingerprint,
  NAMESPACES,
  signBlob,
  toBase64,
  unarmor,
  verify,
  verifyBase64,
} from '../../../../deploy/shared/bundle/sshsig.ts'
import { fixedKey } from '../../../fixtures/bundles.ts'
import { flip } from '../../../fixtures/random.ts'
import { missing, refusal, run, tempFolder } from '../../../fixtures/tools.ts'

const MESSAGE = Buffer.from('{"format":"medulla-release/1"}\n')
const noKeygen = missing('ssh-keygen')

test('a signature says who signed', () => {
  const key = fixedKey()
  const armored = signBlob(key.privateKey, key.publicKey, 'release@medulla', MESSAGE)
  expect(verify(armored, 'release@medulla', MESSAGE)).toEqual({
    publicKey: key.publicKey,
    fingerprint: fingerprint(key.publicKey),
  })
  expect(verifyBase64(toBase64(armored), 'release@medulla', MESSAGE).publicKey).toBe(key.publicKey)
})

test('BUNDLE 2.3: a signature of one kind of statement is none of another', async () => {
  const key = fixedKey()
  for (const made of NAMESPACES) {
    const armored = signBlob(key.privateKey, key.publicKey, made, MESSAGE)
    for (const asked of NAMESPACES) {
      if (asked === made) continue
      const refused = await refusal(() => verify(armored, asked, MESSAGE))
      expect(refused.code).toBe('bad-signature')
      expect(refused.message).toContain(`expected namespace ${asked}`)
    }
  }
})

test('BUNDLE 2.2: no bit of an armored signature or its blob is free', async () => {
  const key = fixedKey()
  const armored = Buffer.from(signBlob(key.privateKey, key.publicKey, 'cert@medulla', MESSAGE))
  for (let bit = 0; bit < armored.length * 8; bit++) {
    const text = Buffer.from(flip(armored, bit)).toString('latin1')
    expect((await refusal(() => verify(text, 'cert@medulla', MESSAGE))).code).toBe('bad-signature')
  }
  const blob = unarmor(armored.toString())
  for (let bit = 0; bit < blob.length * 8; bit++) {
    const changed = flip(blob, bit)
    // another key is another signer only if it verifies, which it cannot
    expect((await refusal(() => verify(armor(changed), 'cert@medulla', MESSAGE))).code).toBe('bad-signature')
  }
})

test('P8: another hash, key type or version in a signature is refused, whoever signed', async () => {
  const key = fixedKey()
  const blob = unarmor(signBlob(key.privateKey, key.publicKey, 'release@medulla', MESSAGE))
  const text = Buffer.from(blob).toString('latin1')
  for (const [from, to] of [
    ['sha512', 'sha256'],
    ['ssh-ed25519', 'ssh-ed44819'],
    ['SSHSIG\0\0\0\x01', 'SSHSIG\0\0\0\x02'],
  ] as const) {
    expect(text).toContain(from)
    const changed = armor(Buffer.from(text.replaceAll(from, to), 'latin1'))
    expect((await refusal(() => verify(changed, 'release@medulla', MESSAGE))).code, to).toBe('bad-signature')
  }
})

test('BUNDLE 1.4: a signature has a size', async () => {
  const long = `-----BEGIN SSH SIGNATURE-----\n${'A'.repeat(5000)}\n-----END SSH SIGNATURE-----\n`
  expect((await refusal(() => verify(long, 'cert@medulla', MESSAGE))).code).toBe('too-large')
  expect((await refusal(() => verifyBase64('A'.repeat(4100), 'cert@medulla', MESSAGE))).code).toBe('too-large')
})

test.skipIf(noKeygen)(`ssh-keygen verifies what we sign${noKeygen}`, () => {
  const folder = tempFolder()
  const key = fixedKey()
  writeFileSync(join(folder, 'allowed_signers'), `me@laptop ${key.publicKey}\n`)
  writeFileSync(join(folder, 'sig'), signBlob(key.privateKey, key.publicKey, 'release@medulla', MESSAGE))
  const check = ['-Y', 'verify', '-f', 'allowed_signers', '-I', 'me@laptop', '-s', 'sig', '-n']
  expect(run(folder, 'ssh-keygen', [...check, 'release@medulla'], MESSAGE)).toContain(
    'Good "release@medulla" signature',
  )
  expect(() => run(folder, 'ssh-keygen', [...check, 'order@medulla'], MESSAGE)).toThrow()
})

test.skipIf(noKeygen)(`we verify what ssh-keygen signs, and sign the same bytes${noKeygen}`, async () => {
  const folder = tempFolder()
  const key = fixedKey()
  writeFileSync(join(folder, 'key'), key.file, { mode: 0o600 })
  const armored = run(folder, 'ssh-keygen', ['-Y', 'sign', '-n', 'release@medulla', '-f', 'key'], MESSAGE)
  expect(verify(armored, 'release@medulla', MESSAGE).publicKey).toBe(key.publicKey)
  expect(signBlob(key.privateKey, key.publicKey, 'release@medulla', MESSAGE)).toBe(armored)
  const sha256 = run(
    folder,
    'ssh-keygen',
    ['-Y', 'sign', '-O', 'hashalg=sha256', '-n', 'release@medulla', '-f', 'key'],
    MESSAGE,
  )
  expect((await refusal(() => verify(sha256, 'release@medulla', MESSAGE))).message).toContain('expected hash sha512')
  run(folder, 'ssh-keygen', ['-q', '-t', 'ecdsa', '-N', '', '-f', 'other'])
  const other = run(folder, 'ssh-keygen', ['-Y', 'sign', '-n', 'release@medulla', '-f', 'other'], MESSAGE)
  expect((await refusal(() => verify(other, 'release@medulla', MESSAGE))).message).toContain(
    'expected a key of type ssh-ed25519',
  )
})
