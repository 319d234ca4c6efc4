import { chmodSync, copyFileSync, existsSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { openSealed, seal } from '../../../deploy/shared/bundle/seal.ts'
import { verifyCertificate } from '../../../deploy/shared/cert.ts'
import { noisePublic } from '../../../deploy/shared/keys.ts'
import { openHome, readEndpointKeys } from '../../../runtime/store/home.ts'
import { forgetRetired, MAX_RETIRED } from '../../../runtime/store/rotation.ts'
import { tempFolder } from '../../fixtures/tools.ts'

const digest = (n: number): string => `sha256:${String(n).repeat(64)}`
const CONTENT = Buffer.from('a bundle')

async function agree(dir: string): Promise<void> {
  const home = await openHome(dir)
  const cert = verifyCertificate(home.card)
  const { noise, age } = await readEndpointKeys(home)
  expect(cert.noise).toBe(Buffer.from(noisePublic(Buffer.from(noise, 'hex'))).toString('base64'))
  expect(Buffer.from(await openSealed(await seal(CONTENT, [cert.age ?? '']), age))).toEqual(CONTENT)
  await home.close()
}

test('HANDOVER 19.7, BUNDLE 3.4: new keys have a later certificate of the same identity, also where the clock is behind', async () => {
  const dir = join(tempFolder(), 'home')
  const home = await openHome(dir, { name: 'robo', now: () => new Date('2026-01-02T03:04:05.678Z') })
  const before = verifyCertificate(home.card)
  await home.close()
  const behind = await openHome(dir, { now: () => new Date(0) })
  const card = await behind.rotate([])
  const after = verifyCertificate(card)
  expect(behind.card).toEqual(card)
  expect(after).toMatchObject({ id: before.id, name: 'robo', created: '2026-01-02T03:04:05.679Z' })
  expect(after.noise).not.toBe(before.noise)
  expect(after.age).not.toBe(before.age)
  await behind.close()
  for (const name of ['noise.key', 'age.key']) expect(statSync(join(dir, 'endpoint', name)).mode & 0o777).toBe(0o600)
  await agree(dir)
})

test('HANDOVER 19.7: after a kill at any point of a rotation, certificate and keys belong together', async () => {
  const dir = join(tempFolder(), 'home')
  const home = await openHome(dir, { name: 'robo' })
  const endpoint = (name: string) => join(dir, 'endpoint', name)
  const files = { noise: endpoint('noise.key'), age: endpoint('age.key'), card: join(dir, 'robot.json') }
  const old = Object.entries(files).map(([name, path]) => [name, readFileSync(path)] as const)
  await home.rotate([])
  await home.close()
  const fresh = Object.entries(files).map(([name, path]) => [name, readFileSync(path)] as const)
  const [before, after] = [Object.fromEntries(old), Object.fromEntries(fresh)]
  const put = (path: string, bytes: Buffer | undefined) => writeFileSync(path, bytes ?? '', { mode: 0o600 })
  /** The files as a kill would leave them; `next`: the new keys that are still beside the old ones. */
  const left = (card: typeof before, noise: typeof before, age: typeof before, next: ('noise' | 'age')[]) => {
    put(files.card, card.card)
    put(files.noise, noise.noise)
    put(files.age, age.age)
    for (const name of next) put(`${files[name]}.next`, after[name])
  }
  left(before, before, before, ['noise'])
  await agree(dir)
  left(before, before, before, ['noise', 'age'])
  await agree(dir)
  expect(readFileSync(files.card)).toEqual(before.card)
  // a key that was cut short is no key
  left(before, before, before, ['noise'])
  put(`${files.age}.next`, after.age?.subarray(0, 20))
  await agree(dir)
  left(after, before, before, ['noise', 'age'])
  await agree(dir)
  left(after, after, before, ['age'])
  await agree(dir)
  expect(readFileSync(files.card)).toEqual(after.card)
  for (const name of ['noise', 'age'] as const) expect(existsSync(`${files[name]}.next`)).toBe(false)
})

test('HANDOVER 19.8: a retired age key is kept while a stored release was installed under it, and removed then', async () => {
  const dir = join(tempFolder(), 'home')
  const home = await openHome(dir, { name: 'robo' })
  const recipients = [verifyCertificate(home.card).age ?? '']
  const keys = async () => {
    const { age, retired = [] } = await readEndpointKeys(home)
    return [age, ...retired]
  }
  const opens = async (recipient = '') => openSealed(await seal(CONTENT, [recipient]), await keys()).then(Buffer.from)
  // nothing is stored: nothing can need the old key
  await home.rotate([])
  await expect(opens(recipients[0])).rejects.toMatchObject({ code: 'wrong-robot' })
  recipients.push(verifyCertificate(home.card).age ?? '')
  await home.rotate([digest(1), digest(2)])
  recipients.push(verifyCertificate(home.card).age ?? '')
  await home.rotate([digest(2)])
  expect(statSync(join(dir, 'endpoint/retired.json')).mode & 0o777).toBe(0o600)
  expect(await opens(recipients[1])).toEqual(CONTENT)
  expect(await opens(recipients[2])).toEqual(CONTENT)
  expect(await forgetRetired(dir, new Set([digest(1), digest(3)]))).toBe(1)
  expect(await opens(recipients[1])).toEqual(CONTENT)
  await expect(opens(recipients[2])).rejects.toMatchObject({ code: 'wrong-robot' })
  expect(await forgetRetired(dir, new Set([digest(3)]))).toBe(1)
  await expect(opens(recipients[1])).rejects.toMatchObject({ code: 'wrong-robot' })
  expect(existsSync(join(dir, 'endpoint/retired.json'))).toBe(false)
  for (let n = 0; n < MAX_RETIRED + 2; n++) await home.rotate([digest(1)])
  expect(await keys()).toHaveLength(MAX_RETIRED + 1)
  await home.close()
})

test('retired keys that others may read, or that are damaged, are refused without a part of a key', async () => {
  const dir = join(tempFolder(), 'home')
  const home = await openHome(dir, { name: 'robo' })
  await home.rotate([digest(1)])
  const path = join(dir, 'endpoint/retired.json')
  copyFileSync(path, `${path}.copy`)
  chmodSync(path, 0o644)
  await expect(readEndpointKeys(home)).rejects.toMatchObject({ code: 'no-key', hint: `chmod 600 ${path}` })
  renameSync(`${path}.copy`, path)
  chmodSync(path, 0o600)
  writeFileSync(path, readFileSync(path, 'utf8').replace('releases', 'x'))
  await expect(readEndpointKeys(home)).rejects.toMatchObject({
    code: 'no-key',
    message: expect.not.stringContaining('AGE-SECRET'),
  })
  await home.close()
})
