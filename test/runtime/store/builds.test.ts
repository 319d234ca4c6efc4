import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { signBuild, verifyBuild } from '../../../deploy/shared/bundle/buildstatement.ts'
import { toBase64 } from '../../../deploy/shared/bundle/sshsig.ts'
import { encodeJson } from '../../../deploy/shared/bundle/strict.ts'
import { Builds } from '../../../runtime/store/builds.ts'
import { newSigner } from '../../fixtures/bundles.ts'
import { refusal, tempFolder } from '../../fixtures/tools.ts'

const [ann, bob, cas, eve] = [newSigner(), newSigner(), newSigner(), newSigner()]
const about = { program: 'arm', version: '1.0.0', h1: `h1:${'A'.repeat(43)}=` }
const policy = { count: 2, builders: [ann, bob, cas].map(({ publicKey }) => publicKey) }

test('BUNDLE 17.1: a statement has one text and names its builder; every change of it is refused', async () => {
  const signed = await signBuild(about, ann)
  expect(verifyBuild(signed)).toEqual({ ...about, builder: ann.publicKey, fingerprint: ann.fingerprint })
  const statement = signed.statement.replace('arm', 'leg')
  expect((await refusal(async () => verifyBuild({ ...signed, statement }))).code).toBe('bad-signature')
  const sign = async (value: object, namespace = 'build@medulla') => {
    const bytes = encodeJson(value)
    return { statement: Buffer.from(bytes).toString(), sig: toBase64(await ann.sign(namespace, bytes)) }
  }
  const good = { format: 'medulla-build/1', ...about }
  for (const [value, code] of [
    [{ ...good, format: 'medulla-build/2' }, 'unknown-format'],
    [{ ...good, more: 1 }, 'bad-bundle'],
    [{ ...good, h1: 'h2:x' }, 'bad-bundle'],
    [{ ...good, program: '../arm' }, 'bad-bundle'],
    [{ ...good, version: 'x'.repeat(2000) }, 'too-large'],
  ] as const) {
    const wrong = await sign(value)
    expect((await refusal(async () => verifyBuild(wrong))).code).toBe(code)
  }
  const other = await sign(good, 'release@medulla')
  expect((await refusal(async () => verifyBuild(other))).code).toBe('bad-signature')
})

test('BUNDLE 17.2: only what enough different builders of the board file have signed for the same files may run', async () => {
  const dir = tempFolder()
  const builds = await Builds.open(dir, policy)
  expect(builds.refusal(about)).toMatchObject({
    code: 'not-reproduced',
    message: expect.stringContaining('0 of the 2'),
  })
  await builds.add(await signBuild(about, ann))
  await builds.add(await signBuild(about, ann))
  expect(builds.refusal(about)).toMatchObject({ message: expect.stringContaining('1 of the 2') })
  await expect(builds.add(await signBuild(about, eve))).rejects.toMatchObject({ code: 'unknown-operator' })
  // statements about other files do not count
  const other = { ...about, h1: `h1:${'B'.repeat(43)}=` }
  await builds.add(await signBuild(other, bob))
  await builds.add(await signBuild({ ...about, version: '1.0.1' }, cas))
  expect(builds.refusal(about)).toMatchObject({ code: 'not-reproduced' })
  await builds.add(await signBuild(about, cas))
  expect(builds.refusal(about)).toBeNull()
  expect(builds.refusal(other)).toMatchObject({ message: expect.stringContaining('1 of the 2') })
  // after a restart, and under the builders that the board file names then
  expect((await Builds.open(dir, policy)).refusal(about)).toBeNull()
  const fewer = { count: 2, builders: [ann.publicKey, bob.publicKey] }
  expect((await Builds.open(dir, fewer)).refusal(about)).toMatchObject({ code: 'not-reproduced' })
})

test('BUNDLE 17.2: the statements of a revoked key do not count, and new ones are refused', async () => {
  const dir = tempFolder()
  const builds = await Builds.open(dir, policy)
  for (const one of [ann, bob]) await builds.add(await signBuild(about, one))
  expect(builds.refusal(about)).toBeNull()
  builds.isRevoked = (id) => id === bob.fingerprint
  expect(builds.refusal(about)).toMatchObject({ message: expect.stringContaining('1 of the 2') })
  await expect(builds.add(await signBuild(about, bob))).rejects.toMatchObject({ code: 'revoked-key' })
  await builds.add(await signBuild(about, cas))
  expect(builds.refusal(about)).toBeNull()
})

test('a robot whose board file asks for no builders runs everything, and keeps no statements', async () => {
  const builds = await Builds.open(tempFolder(), null)
  expect(builds.refusal(about)).toBeNull()
  await expect(builds.add(await signBuild(about, ann))).rejects.toMatchObject({ code: 'unsupported' })
})

test('BUNDLE 17.4: a robot keeps the 256 newest statements; a damaged file of them lets nothing run', async () => {
  const dir = tempFolder()
  const one = { count: 1, builders: [ann.publicKey] }
  const builds = await Builds.open(dir, one)
  const numbered = (n: number) => ({ ...about, version: `1.0.${n}` })
  for (let n = 0; n <= 256; n++) await builds.add(await signBuild(numbered(n), ann))
  expect(builds.refusal(numbered(0))).toMatchObject({ code: 'not-reproduced' })
  expect(builds.refusal(numbered(1))).toBeNull()
  const path = join(dir, 'builds.json')
  writeFileSync(path, readFileSync(path, 'utf8').replace('1.0.256', '1.0.300'))
  const again = await Builds.open(dir, one)
  expect(again.problems).toHaveLength(1)
  expect(again.refusal(numbered(256))).toMatchObject({ code: 'not-reproduced' })
})
