import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  checkConfigValue,
  configRecipient,
  openConfigValue,
  sealConfigValue,
  signConfigKey,
} from '../../../deploy/shared/configvalue.ts'
import { generateAgeIdentity } from '../../../deploy/shared/keys.ts'
import { newSigner } from '../../fixtures/bundles.ts'
import { refusal } from '../../fixtures/tools.ts'

const MAX = 4096

test('BUNDLE 13.1, 13.3: a value is what it was; its sealed length says no more than 256 bytes of it', async () => {
  const { identity, recipient } = await generateAgeIdentity()
  const lengths = new Set<number>()
  for (const value of [
    'x',
    'é'.repeat(128),
    'x'.repeat(256),
    'x'.repeat(257),
    'x'.repeat(MAX),
    '-----\nkey\r\n-----\n',
  ]) {
    const sealed = await sealConfigValue(value, recipient)
    lengths.add(sealed.length)
    expect(await openConfigValue(sealed, identity)).toBe(value)
  }
  expect(lengths.size).toBe(3)
})

test('BUNDLE 13.1: any text without NUL that fits goes through', async () => {
  const { identity, recipient } = await generateAgeIdentity()
  const values = fc.string({ unit: 'binary', minLength: 1, maxLength: 300 }).filter((value) => !value.includes('\0'))
  await fc.assert(
    fc.asyncProperty(values, async (value) => {
      expect(await openConfigValue(await sealConfigValue(value, recipient), identity)).toBe(value)
    }),
    { numRuns: 50 },
  )
})

test.each([
  ['', 'the value is empty'],
  ['a\0b', 'NUL'],
  ['x'.repeat(MAX + 1), 'the value has 4097 bytes, at most 4096'],
  ['é'.repeat(MAX / 2 + 1), 'the value has 4098 bytes'],
  ['\ud800', 'not Unicode'],
])('BUNDLE 13.1: %j is no value, and the refusal does not hold it', async (value, says) => {
  const { code, message } = await refusal(() => checkConfigValue(value))
  expect(code).toBe('usage')
  expect(message).toContain(says)
  if (value.length > 3) expect(message).not.toContain(value)
})

test('BUNDLE 13.2: the key is that of the robot which is meant, or is refused', async () => {
  const [robot, other] = [newSigner(), newSigner()]
  const { recipient } = await generateAgeIdentity()
  const signed = await signConfigKey(recipient, robot)
  expect(configRecipient(signed, robot.fingerprint)).toBe(recipient)
  for (const wrong of [
    await signConfigKey(recipient, other),
    { ...signed, key: signed.key.replace(/(.)("}\n)$/, (_, last, end) => (last === 'q' ? 'p' : 'q') + end) },
    { ...signed, key: signed.key.trimEnd() },
    { ...signed, sig: (await signConfigKey(recipient, other)).sig },
    { key: '{}\n', sig: signed.sig },
  ]) {
    expect((await refusal(() => configRecipient(wrong, robot.fingerprint))).code).toBe('bad-signature')
  }
  expect((await refusal(() => configRecipient({ ...signed, key: 'x'.repeat(9000) }, robot.fingerprint))).code).toBe(
    'too-large',
  )
})
