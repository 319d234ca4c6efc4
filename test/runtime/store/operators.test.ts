import { execFileSync } from 'node:child_process'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { issueCertificate, type SignedCertificate } from '../../../deploy/shared/cert.ts'
import { generateKey, generateNoiseKey, type Signer } from '../../../deploy/shared/keys.ts'
import { addOperator, loadOperators, removeOperator } from '../../../runtime/store/operators.ts'
import { certificateOf } from '../../fixtures/cards.ts'
import { tempFolder } from '../../fixtures/tools.ts'

async function operatorCard(signer: Signer, name: string): Promise<{ card: SignedCertificate; noise: string }> {
  const cert = certificateOf('operator', name, signer, generateNoiseKey().public)
  return { card: await issueCertificate(cert, signer), noise: cert.noise }
}

test('the first operator is an owner, the next is not, and the list never loses its last owner', async () => {
  const dir = tempFolder()
  const [ann, bob] = await Promise.all(['ann', 'bob'].map((name) => generateKey(join(dir, name), `${name}@laptop`)))
  if (!ann || !bob) throw new Error('unreachable')
  await expect(addOperator({ dir }, ann.publicKey, 'observer', 'ann')).rejects.toMatchObject({ code: 'role' })
  expect(await addOperator({ dir }, await readFile(join(dir, 'ann.pub'), 'utf8'))).toMatchObject({
    role: 'owner',
    name: 'ann@laptop',
    publicKey: ann.publicKey,
  })
  const { card } = await operatorCard(bob, 'bob')
  expect(await addOperator({ dir }, card)).toMatchObject({ role: 'operator', name: 'bob' })

  const list = await loadOperators({ dir })
  expect(list.all().map((one) => [one.name, one.role])).toEqual([
    ['ann@laptop', 'owner'],
    ['bob', 'operator'],
  ])
  expect(list.byFingerprint(bob.fingerprint)?.name).toBe('bob')
  expect(list.signers()).toEqual(new Set([ann.publicKey, bob.publicKey]))

  await expect(removeOperator({ dir }, ann.fingerprint)).rejects.toMatchObject({ code: 'role' })
  await expect(addOperator({ dir }, ann.publicKey, 'operator')).rejects.toMatchObject({ code: 'role' })
  await addOperator({ dir }, bob.publicKey, 'owner', 'bob')
  await removeOperator({ dir }, ann.fingerprint)
  await expect(removeOperator({ dir }, ann.fingerprint)).rejects.toMatchObject({ code: 'not-found' })
  // reload on change is explicit
  expect(list.signers().size).toBe(2)
  expect((await loadOperators({ dir })).signers()).toEqual(new Set([bob.publicKey]))
})

test('only a listed operator with his own certificate and channel key is somebody', async () => {
  const dir = tempFolder()
  const [ann, eve] = await Promise.all(['ann', 'eve'].map((name) => generateKey(join(dir, name), name)))
  if (!ann || !eve) throw new Error('unreachable')
  const { card, noise } = await operatorCard(ann, 'ann')
  await addOperator({ dir }, card, 'owner')
  const list = await loadOperators({ dir })
  expect(list.who(card, noise)).toEqual({ fingerprint: ann.fingerprint, role: 'owner', name: 'ann' })

  const other = await operatorCard(eve, 'ann')
  expect(list.who(other.card, other.noise)).toBeNull()
  expect(list.who(card, other.noise)).toBeNull()
  expect(list.who({ ...card, sig: other.card.sig }, noise)).toBeNull()
  expect(list.who({ cert: card.cert.replace('"ann"', '"bob"'), sig: card.sig }, noise)).toBeNull()
  expect(list.who({ cert: 'x'.repeat(20_000), sig: '' }, noise)).toBeNull()
})

test('an observer signs nothing, and a key in only one of the two files has no rights', async () => {
  const dir = tempFolder()
  const [ann, bob] = await Promise.all(['ann', 'bob'].map((name) => generateKey(join(dir, name), name)))
  if (!ann || !bob) throw new Error('unreachable')
  await addOperator({ dir }, ann.publicKey, 'owner', 'ann')
  await addOperator({ dir }, bob.publicKey, 'observer', 'bob')
  expect((await loadOperators({ dir })).signers()).toEqual(new Set([ann.publicKey]))

  const roles = join(dir, 'operators', 'roles.json')
  const { [ann.fingerprint]: kept } = JSON.parse(await readFile(roles, 'utf8'))
  await writeFile(roles, JSON.stringify({ [ann.fingerprint]: kept }))
  expect((await loadOperators({ dir })).byFingerprint(bob.fingerprint)).toBeNull()
  const signers = join(dir, 'operators', 'allowed_signers')
  await writeFile(signers, '')
  expect((await loadOperators({ dir })).all()).toEqual([])
})

test.each([
  ['a pattern', '* namespaces="release@medulla" KEY'],
  ['no namespaces', 'ann KEY'],
  ['another option', 'ann valid-before="20300101",namespaces="release@medulla" KEY'],
  ['an authority', 'ann cert-authority,namespaces="release@medulla" KEY'],
  ['another key type', 'ann namespaces="release@medulla" ssh-rsa AAAAB3NzaC1yc2E='],
  ['no key', 'ann namespaces="release@medulla" ssh-ed25519 AAAA'],
  ['a key twice', 'ann namespaces="release@medulla" KEY\nbob namespaces="release@medulla" KEY'],
])('a hand-made list with %s is refused, never half read', async (_, line) => {
  const dir = tempFolder()
  const ann = await generateKey(join(dir, 'ann'), 'ann')
  await mkdir(join(dir, 'operators'))
  await writeFile(join(dir, 'operators', 'allowed_signers'), `# ours\n\n${line.replaceAll('KEY', ann.publicKey)}\n`)
  await expect(loadOperators({ dir })).rejects.toMatchObject({ name: 'Refusal' })
})

test('changes made at once are all kept or refused, none is lost', async () => {
  const dir = tempFolder()
  const signers = await Promise.all(Array.from({ length: 6 }, (_, n) => generateKey(join(dir, `k${n}`), `k${n}`)))
  const results = await Promise.allSettled(
    signers.map((one, n) => addOperator({ dir }, one.publicKey, 'owner', `k${n}`)),
  )
  const added = signers.filter((_, n) => results[n]?.status === 'fulfilled').map((one) => one.publicKey)
  expect(added.length).toBeGreaterThan(0)
  expect((await loadOperators({ dir })).signers()).toEqual(new Set(added))
})

test('ssh-keygen reads our allowed_signers: an operator verifies for his namespaces, an observer does not', async () => {
  const dir = tempFolder()
  const [ann, bob] = await Promise.all(['ann', 'bob'].map((name) => generateKey(join(dir, name), name)))
  if (!ann || !bob) throw new Error('unreachable')
  await addOperator({ dir }, ann.publicKey, 'owner', 'ann')
  await addOperator({ dir }, bob.publicKey, 'observer', 'bob')
  const message = Buffer.from('a release')
  const verify = async (signer: Signer, name: string, namespace: string): Promise<string> => {
    const sig = join(dir, `${name}.sig`)
    await writeFile(sig, await signer.sign(namespace, message))
    const list = join(dir, 'operators', 'allowed_signers')
    const args = ['-Y', 'verify', '-f', list, '-I', name, '-n', namespace, '-s', sig]
    return execFileSync('ssh-keygen', args, { input: message, stdio: 'pipe' }).toString()
  }
  expect(await verify(ann, 'ann', 'release@medulla')).toContain(`Good "release@medulla" signature for ann`)
  expect(await verify(ann, 'ann', 'order@medulla')).toContain('Good')
  await expect(verify(ann, 'ann', 'receipt@medulla')).rejects.toThrow()
  await expect(verify(bob, 'bob', 'release@medulla')).rejects.toThrow()
  await expect(verify(bob, 'ann', 'release@medulla')).rejects.toThrow()
})
