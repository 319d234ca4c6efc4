import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { issueCertificate, type SignedCertificate } from '../../../deploy/shared/cert.ts'
import { generateNoiseKey, type Signer } from '../../../deploy/shared/keys.ts'
import { makeRecoveryKey, openRecoveryKey } from '../../../deploy/shared/recoverykey.ts'
import {
  makeFirstRecovery,
  recover,
  revokeKey,
  rotateOperator,
  setRecovery,
} from '../../../runtime/store/operatorkeys.ts'
import { addOperator, changeOperators, loadOperators } from '../../../runtime/store/operators.ts'
import { newSigner } from '../../fixtures/bundles.ts'
import { certificateOf } from '../../fixtures/cards.ts'
import { tempFolder } from '../../fixtures/tools.ts'

interface Person {
  signer: Signer
  card: SignedCertificate
  noise: string
}

async function person(name: string): Promise<Person> {
  const signer = newSigner()
  const cert = certificateOf('operator', name, signer, generateNoiseKey().public)
  return { signer, card: await issueCertificate(cert, signer), noise: cert.noise }
}

/** A robot with the owner ann and the operator bob. */
async function robot() {
  const home = { dir: tempFolder() }
  const [ann, bob] = [await person('ann'), await person('bob')]
  await addOperator(home, ann.card)
  await addOperator(home, bob.card)
  return { home, ann, bob, list: () => loadOperators(home) }
}

const named = (list: Awaited<ReturnType<typeof loadOperators>>) => list.all().map(({ name, role }) => `${name} ${role}`)

test('HANDOVER 19.1: each change raises the counter, and an order that was signed for an earlier list does not count', async () => {
  const { home, bob, list } = await robot()
  const before = (await list()).state.counter
  expect(before).toBe(2)
  const operator = bob.signer.fingerprint
  const order = { order: 'change-role', operator, role: 'owner', list: before } as const
  await changeOperators(home, order)
  expect((await list()).state.counter).toBe(before + 1)
  await expect(changeOperators(home, { ...order, role: 'observer' })).rejects.toMatchObject({ code: 'stale-order' })
  const again = { order: 'add-operator', card: bob.card, key: null, name: null, role: null, list: before } as const
  await expect(changeOperators(home, again)).rejects.toMatchObject({ code: 'stale-order' })
  await expect(revokeKey(home, operator, before)).rejects.toMatchObject({ code: 'stale-order' })
  expect(named(await list())).toEqual(['ann owner', 'bob owner'])
})

test('HANDOVER 19.2: a revoked key is never let in again: by no order, no command, and no line in the files', async () => {
  const { home, ann, bob, list } = await robot()
  const files = ['allowed_signers', 'roles.json'].map((name) => join(home.dir, 'operators', name))
  const saved = files.map((file) => readFileSync(file, 'utf8'))
  const id = bob.signer.fingerprint
  expect(await revokeKey(home, id)).toEqual({ fingerprint: id, name: 'bob' })
  expect((await list()).who(bob.card, bob.noise)).toBeNull()
  await expect(addOperator(home, bob.card)).rejects.toMatchObject({ code: 'revoked-key' })
  await expect(addOperator(home, bob.signer.publicKey, 'owner', 'bob')).rejects.toMatchObject({ code: 'revoked-key' })
  await expect(rotateOperator(home, ann.signer.fingerprint, bob.card)).rejects.toMatchObject({ code: 'revoked-key' })
  // as a backup of the files would put them back
  for (const [at, file] of files.entries()) writeFileSync(file, saved[at] ?? '')
  expect(named(await list())).toEqual(['ann owner'])
  expect((await list()).signers()).toEqual(new Set([ann.signer.publicKey]))
  // a key that the robot never knew is barred, too
  const eve = await person('eve')
  expect(await revokeKey(home, eve.signer.fingerprint)).toEqual({ fingerprint: eve.signer.fingerprint, name: null })
  await expect(addOperator(home, eve.card)).rejects.toMatchObject({ code: 'revoked-key' })
  await expect(revokeKey(home, ann.signer.fingerprint)).rejects.toMatchObject({ code: 'role' })
  const state = join(home.dir, 'operators', 'list.json')
  writeFileSync(state, readFileSync(state, 'utf8').replace('"revoked"', '"ignored"'))
  await expect(list()).rejects.toMatchObject({ code: 'usage', message: `${state} is damaged` })
})

test('HANDOVER 19.3: the first recovery key is made once, and no file holds its text', async () => {
  const { home, list } = await robot()
  const text = (await makeFirstRecovery(home)) ?? ''
  const { signer } = await openRecoveryKey(text)
  expect((await list()).state.recovery).toMatchObject({ key: signer.publicKey })
  expect(await makeFirstRecovery(home)).toBeNull()
  for (const name of readdirSync(join(home.dir, 'operators'), { recursive: true, withFileTypes: true })) {
    if (!name.isFile()) continue
    const content = readFileSync(join(name.parentPath, name.name), 'utf8').toUpperCase()
    for (const group of text.split('-')) expect(content, name.name).not.toContain(group)
  }
})

test('HANDOVER 19.4: the recovery key makes an owner, revokes what is named, and works once', async () => {
  const { home, ann, bob, list } = await robot()
  const key = await openRecoveryKey((await makeFirstRecovery(home)) ?? '')
  const [cas, next] = [await person('cas'), makeRecoveryKey()]
  const noise = JSON.parse(key.card.cert).noise as string
  expect((await list()).who(key.card, noise)).toMatchObject({ role: 'recovery', fingerprint: key.signer.fingerprint })
  expect((await list()).byFingerprint(key.signer.fingerprint)).toBeNull()
  const wish = { order: 'recover', card: cas.card, name: null, revoke: ['ann'], next: next.publicKey } as const
  const unnamed = { ...wish, revoke: ['nobody'] }
  await expect(recover(home, key.signer.publicKey, unnamed)).rejects.toMatchObject({ code: 'not-found' })
  const oneself = { ...wish, revoke: [cas.signer.fingerprint] }
  await expect(recover(home, key.signer.publicKey, oneself)).rejects.toMatchObject({ code: 'usage' })
  const same = { ...wish, next: key.signer.publicKey }
  await expect(recover(home, key.signer.publicKey, same)).rejects.toMatchObject({ code: 'usage' })
  const { owner, revoked } = await recover(home, key.signer.publicKey, {
    ...wish,
    revoke: ['ann', bob.signer.fingerprint],
  })
  expect(owner).toMatchObject({ name: 'cas', role: 'owner', fingerprint: cas.signer.fingerprint })
  expect(revoked).toEqual([
    { fingerprint: ann.signer.fingerprint, name: 'ann' },
    { fingerprint: bob.signer.fingerprint, name: 'bob' },
  ])
  expect(named(await list())).toEqual(['cas owner'])
  expect((await list()).state.recovery?.key).toBe(next.publicKey)
  expect((await list()).who(key.card, noise)).toBeNull()
  await expect(recover(home, key.signer.publicKey, wish)).rejects.toMatchObject({ code: 'unknown-operator' })
  await expect(addOperator(home, ann.card)).rejects.toMatchObject({ code: 'revoked-key' })
  // somebody who is an operator already becomes owner, under the same name
  const dan = await person('dan')
  await addOperator(home, dan.card, 'observer')
  await recover(home, next.publicKey, { ...wish, card: dan.card, revoke: [], next: makeRecoveryKey().publicKey })
  expect(named(await list())).toEqual(['cas owner', 'dan owner'])
})

test('HANDOVER 19.6: an operator gets another key and keeps name and role; the old key is revoked', async () => {
  const { home, ann, bob, list } = await robot()
  const [next, other] = [await person('laptop-2'), await person('laptop-3')]
  const rotated = await rotateOperator(home, ann.signer.fingerprint, next.card)
  expect(rotated).toMatchObject({ name: 'ann', role: 'owner', fingerprint: next.signer.fingerprint })
  expect(named(await list())).toEqual(['ann owner', 'bob operator'])
  expect((await list()).who(ann.card, ann.noise)).toBeNull()
  expect((await list()).who(next.card, next.noise)).toMatchObject({ name: 'ann', role: 'owner' })
  await expect(addOperator(home, ann.card)).rejects.toMatchObject({ code: 'revoked-key' })
  await expect(rotateOperator(home, ann.signer.fingerprint, other.card)).rejects.toMatchObject({ code: 'not-found' })
  await expect(rotateOperator(home, next.signer.fingerprint, bob.card)).rejects.toMatchObject({ code: 'usage' })
})

test('an owner replaces the recovery key: the one before is not valid any more', async () => {
  const { home, list } = await robot()
  const before = await openRecoveryKey((await makeFirstRecovery(home)) ?? '')
  const { publicKey } = makeRecoveryKey()
  await setRecovery(home, publicKey)
  expect((await list()).state.recovery?.key).toBe(publicKey)
  expect((await list()).who(before.card, JSON.parse(before.card.cert).noise)).toBeNull()
})

test('HANDOVER 19.2: a revoked recovery key recovers nothing, and no revoked key becomes one', async () => {
  const { home, ann, bob, list } = await robot()
  const paper = await openRecoveryKey((await makeFirstRecovery(home)) ?? '')
  const noise = JSON.parse(paper.card.cert).noise as string
  // the paper is lost, and an owner bars its key
  expect(await revokeKey(home, paper.signer.fingerprint)).toEqual({ fingerprint: paper.signer.fingerprint, name: null })
  const barred = await list()
  expect([barred.state.recovery, barred.who(paper.card, noise)]).toEqual([null, null])
  const order = {
    order: 'recover',
    card: bob.card,
    name: null,
    revoke: ['ann'],
    next: makeRecoveryKey().publicKey,
  } as const
  await expect(recover(home, paper.signer.publicKey, order)).rejects.toMatchObject({ code: 'unknown-operator' })
  await expect(setRecovery(home, paper.signer.publicKey)).rejects.toMatchObject({ code: 'revoked-key' })
  // not by a file that was put back either
  const file = join(home.dir, 'operators', 'list.json')
  const recovery = `"recovery": {"key": "${paper.signer.publicKey}", "counter": 3}`
  writeFileSync(file, readFileSync(file, 'utf8').replace('"recovery": null', recovery))
  expect((await list()).who(paper.card, noise)).toBeNull()
  expect(named(await list())).toEqual(['ann owner', 'bob operator'])
  // a recovery names a key that it revokes as the next one
  const second = await openRecoveryKey((await makeFirstRecovery(home)) ?? '')
  const own = {
    ...order,
    revoke: [bob.signer.fingerprint],
    card: (await person('cas')).card,
    next: bob.signer.publicKey,
  }
  await expect(recover(home, second.signer.publicKey, own)).rejects.toMatchObject({ code: 'revoked-key' })
  expect(named(await list())).toEqual(['ann owner', 'bob operator'])
  expect((await list()).who(ann.card, ann.noise)).toMatchObject({ role: 'owner' })
})

test("HANDOVER 19.4: no operator's key becomes the recovery key, and no recovery key an operator's", async () => {
  const { home, ann, bob, list } = await robot()
  const { signer } = await openRecoveryKey((await makeFirstRecovery(home)) ?? '')
  const before = JSON.stringify([named(await list()), (await list()).state])
  const wish = { order: 'recover', card: bob.card, name: null, revoke: [], next: ann.signer.publicKey } as const
  const attempts = [
    () => setRecovery(home, ann.signer.publicKey),
    () => recover(home, signer.publicKey, wish),
    () => recover(home, signer.publicKey, { ...wish, next: bob.signer.publicKey }),
    () => addOperator(home, `${signer.publicKey} eve`, 'owner'),
  ]
  for (const attempt of attempts) await expect(attempt()).rejects.toMatchObject({ code: 'usage' })
  expect(JSON.stringify([named(await list()), (await list()).state])).toBe(before)
})

test('HANDOVER 19.1: of two orders that owners signed for the same list one counts; an owner revokes himself, the last one cannot', async () => {
  const { home, ann, bob, list } = await robot()
  await addOperator(home, bob.card, 'owner')
  const { counter } = (await list()).state
  await revokeKey(home, ann.signer.fingerprint, counter)
  await expect(revokeKey(home, bob.signer.fingerprint, counter)).rejects.toMatchObject({ code: 'stale-order' })
  await expect(revokeKey(home, bob.signer.fingerprint, counter + 1)).rejects.toMatchObject({ code: 'role' })
  expect(named(await list())).toEqual(['bob owner'])
  expect((await list()).state).toMatchObject({ counter: counter + 1, revoked: [{ key: ann.signer.fingerprint }] })
})
