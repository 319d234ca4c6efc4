import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Decrypter, Encrypter } from 'age-encryption'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { checkHeader, openSealed, parseRecipient, seal } from '../../../../deploy/shared/bundle/seal.ts'
import { Refusal } from '../../../../deploy/shared/errors.ts'
import { bundleFor, newRobot, newSigner } from '../../../fixtures/bundles.ts'
import { missing, refusal, run, tempFolder } from '../../../fixtures/tools.ts'

const CONTENT = Buffer.from('the content\n'.repeat(20))
const robot = await newRobot()
const noAge = missing('age')

test('G1: two sealings of one content differ, in header and in body', async () => {
  const [one, two] = [await seal(CONTENT, [robot.age]), await seal(CONTENT, [robot.age])]
  expect(one.length).toBe(two.length)
  let same = 0
  for (let i = 240; i < one.length; i++) if (one[i] === two[i]) same++
  expect(same).toBeLessThan(20)
  expect(await openSealed(one, robot.identity)).toEqual(await openSealed(two, robot.identity))
})

test('BUNDLE 8.1: age-encryption reads what we seal, and we open what it seals, at every border of a chunk', async () => {
  for (const size of [0, 1, 65535, 65536, 65537, 131072, 200_000]) {
    const content = Buffer.alloc(size, 'abc')
    const decrypter = new Decrypter()
    decrypter.addIdentity(robot.identity)
    expect(Buffer.compare(await decrypter.decrypt(await seal(content, [robot.age])), content)).toBe(0)
    const encrypter = new Encrypter()
    encrypter.addRecipient(robot.age)
    expect(Buffer.compare(await openSealed(await encrypter.encrypt(content), robot.identity), content)).toBe(0)
  }
})

test.skipIf(noAge)(`BUNDLE 8.1: the age CLI opens what we seal, and we open what it seals${noAge}`, async () => {
  const folder = tempFolder()
  const other = await newRobot()
  writeFileSync(join(folder, 'key'), `${robot.identity}\n`)
  writeFileSync(join(folder, 'sealed'), await seal(CONTENT, [other.age, robot.age]))
  run(folder, 'age', ['-d', '-i', 'key', '-o', 'opened', 'sealed'])
  expect(readFileSync(join(folder, 'opened'))).toEqual(CONTENT)
  run(folder, 'age', ['-r', other.age, '-r', robot.age, '-o', 'theirs', 'opened'])
  expect(Buffer.compare(await openSealed(readFileSync(join(folder, 'theirs')), robot.identity), CONTENT)).toBe(0)
  run(folder, 'age', ['-a', '-r', robot.age, '-o', 'armored', 'opened'])
  expect((await refusal(() => openSealed(readFileSync(join(folder, 'armored')), robot.identity))).code).toBe(
    'unknown-format',
  )
})

test('BUNDLE 8.4: G4, G5: N robots cost at most 200 bytes each; each opens with its own key, a removed one cannot', async () => {
  const signer = newSigner()
  const robots = await Promise.all(Array.from({ length: 24 }, newRobot))
  const sizes = new Map<number, number>()
  for (let n = 1; n <= 24; n++) {
    const list = robots.slice(0, n)
    const { bytes, release } = await bundleFor(list, signer)
    sizes.set(n, bytes.length)
    expect(release.recipients).toEqual(list.map((each) => each.id).sort())
    if (n !== 16 && n !== 3) continue
    const opened = await Promise.all(list.map((each) => openSealed(bytes, each.identity)))
    for (const inner of opened) expect(Buffer.compare(inner, opened[0] ?? Buffer.alloc(0))).toBe(0)
    const removed = robots[n] ?? (await newRobot())
    expect((await refusal(() => openSealed(bytes, removed.identity))).code).toBe('wrong-robot')
  }
  const first = sizes.get(1) ?? 0
  for (const [n, size] of sizes) expect(size - first, `${n} robots`).toBeLessThanOrEqual(200 * (n - 1))
  const inner = Buffer.alloc(1000)
  const one = (await seal(inner, [robot.age])).length
  for (const n of [2, 3, 16]) {
    expect(
      (
        await seal(
          inner,
          robots.slice(0, n).map((each) => each.age),
        )
      ).length - one,
    ).toBe(98 * (n - 1))
  }
})

test('G3: what compresses is sealed smaller than it is', async () => {
  const code = 'export function tick(led) { led.write(!led.value) }\n'.repeat(2000)
  const { bytes } = await bundleFor([robot], newSigner(), {}, code)
  expect(bytes.length).toBeLessThan(code.length / 4)
})

test('G2, P8: BUNDLE 8.2: other recipient types, versions and armor are refused by name', async () => {
  const sealed = Buffer.from(await seal(CONTENT, [robot.age])).toString('latin1')
  const stanza = (line: string) =>
    Buffer.from(sealed.replace('-> X25519 ', `${line}\n${'A'.repeat(43)}\n-> X25519 `), 'latin1')
  const named: [Uint8Array, string][] = [
    [Buffer.from(sealed.replace('age-encryption.org/v1', 'age-encryption.org/v2'), 'latin1'), 'age-encryption.org/v2'],
    [Buffer.from('-----BEGIN AGE ENCRYPTED FILE-----\n'), 'BEGIN AGE'],
    [Buffer.from('\x1f\x8b\x08'), 'known: age-encryption.org/v1'],
    [stanza('-> scrypt c2FsdA 22'), 'scrypt'],
    [stanza('-> ssh-ed25519 AAAA BBBB'), 'ssh-ed25519'],
    [stanza('-> xyz-grease a b c'), 'xyz-grease'],
  ]
  for (const [bytes, name] of named) {
    const refused = await refusal(() => openSealed(bytes, robot.identity))
    expect(refused.code).toBe('unknown-format')
    expect(refused.message).toContain(name)
  }
})

test('BUNDLE 8.3: a header is refused as soon as it cannot become one', async () => {
  const line = `-> X25519 ${'A'.repeat(43)}\n${'B'.repeat(43)}\n`
  const header = (n: number) => Buffer.from(`age-encryption.org/v1\n${line.repeat(n)}--- ${'C'.repeat(43)}\n`)
  expect(checkHeader(header(1))).toBe('ok')
  expect(checkHeader(header(256))).toBe('ok')
  expect((await refusal(() => checkHeader(header(257)))).code).toBe('too-large')
  const good = header(2)
  for (let length = 0; length < good.length; length++)
    expect(checkHeader(good.subarray(0, length)), `${length}`).toBe('need-more')
  expect(checkHeader(Buffer.concat([good, Buffer.alloc(100, 0xff)]))).toBe('ok')
  const bad: [string, string][] = [
    ['age-encryption.org/v1\n--- ', 'bad-bundle'],
    [`age-encryption.org/v1\n${line}-> X25519 short\n`, 'bad-bundle'],
    [`age-encryption.org/v1\n-> X25519 ${'A'.repeat(43)}\n${'B'.repeat(64)}\n`, 'bad-bundle'],
    [`age-encryption.org/v1\n${line}\n`, 'bad-bundle'],
    [`age-encryption.org/v1\n${'A'.repeat(65)}`, 'bad-bundle'],
    [`age-encryption.org/v1\r\n${line}`, 'unknown-format'],
    ['x'.repeat(100_000), 'unknown-format'],
    ['PUT /', 'unknown-format'],
  ]
  for (const [text, code] of bad) {
    const whole = text.includes('--- ') ? `${text}${'C'.repeat(43)}\n` : text
    expect((await refusal(() => checkHeader(Buffer.from(whole)))).code, JSON.stringify(text.slice(0, 60))).toBe(code)
  }
})

test('BUNDLE 1.5: whatever the first bytes are, checkHeader answers or refuses', () => {
  const start = fc.constantFrom('', 'age-encryption.org/v1\n', `age-encryption.org/v1\n-> X25519 ${'A'.repeat(43)}\n`)
  const rest = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.string({ maxLength: 200 }).map((text) => Buffer.from(text)),
  )
  fc.assert(
    fc.property(start, rest, (first, more) => {
      try {
        checkHeader(Buffer.concat([Buffer.from(first), more]))
      } catch (error) {
        if (!(error instanceof Refusal)) throw error
      }
    }),
    { numRuns: 500, seed: 7 },
  )
})

test('a malformed identity is refused, and not shown', async () => {
  const sealed = await seal(CONTENT, [robot.age])
  const wrong = `${robot.identity.slice(0, -1)}${robot.identity.endsWith('Q') ? 'P' : 'Q'}`
  const refused = await refusal(() => openSealed(sealed, wrong))
  expect(refused.code).toBe('no-key')
  expect(JSON.stringify(refused) + refused.message + refused.cause).not.toContain(wrong.slice(20, 40))
  expect(Buffer.compare(await openSealed(sealed, `${robot.identity}\n`), CONTENT)).toBe(0)
})

test('BUNDLE 1.4: a bundle has a size, a sealing has recipients', async () => {
  const large = Buffer.alloc(32 * 1024 * 1024 + 1)
  large.set(await seal(CONTENT, [robot.age]))
  expect((await refusal(() => openSealed(large, robot.identity))).code).toBe('too-large')
  expect((await refusal(() => seal(Buffer.alloc(32 * 1024 * 1024), [robot.age]))).code).toBe('too-large')
  expect((await refusal(() => seal(CONTENT, []))).code).toBe('bad-bundle')
  expect((await refusal(() => seal(CONTENT, Array(257).fill(robot.age)))).code).toBe('bad-bundle')
})

test('a recipient is what age says it is', async () => {
  for (let i = 0; i < robot.age.length; i++) {
    const wrong = `${robot.age.slice(0, i)}${robot.age[i] === 'q' ? 'p' : 'q'}${robot.age.slice(i + 1)}`
    expect((await refusal(() => parseRecipient(wrong))).code).toBe('bad-bundle')
  }
  for (const odd of [
    '',
    'age1',
    robot.age.toUpperCase(),
    `${robot.age} `,
    robot.identity,
    `age1pq1${robot.age.slice(4)}`,
  ]) {
    const refused = await refusal(() => parseRecipient(odd))
    expect(refused.code).toBe('bad-bundle')
  }
  // a point of small order would give a secret that everybody knows
  const zero = 'age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq'
  expect((await refusal(() => seal(CONTENT, [zero]))).code).toBe('bad-bundle')
})

test('BUNDLE 8.4: truncated at any length, empty, and endless', async () => {
  const sealed = await seal(Buffer.alloc(70_000, 'x'), [robot.age])
  for (const length of [0, 1, 20, 21, 22, 60, 120, 167, 168, 169, 184, 200, 65_720, 65_736, sealed.length - 1]) {
    const refused = await refusal(() => openSealed(sealed.subarray(0, length), robot.identity))
    expect(['truncated', 'bad-bundle'], `${length}`).toContain(refused.code)
  }
  expect((await refusal(() => openSealed(Buffer.concat([sealed, Buffer.alloc(1)]), robot.identity))).code).toBe(
    'bad-bundle',
  )
  // an upload without end: refused while its header is being read
  let seen = Buffer.from('age-encryption.org/v1\n')
  let refused: unknown
  while (refused === undefined && seen.length < 1 << 20) {
    seen = Buffer.concat([seen, Buffer.from(`-> X25519 ${'A'.repeat(43)}\n${'B'.repeat(43)}\n`.repeat(100))])
    try {
      expect(checkHeader(seen)).toBe('need-more')
    } catch (error) {
      refused = error
    }
  }
  expect(refused instanceof Refusal && refused.code).toBe('too-large')
  expect(seen.length).toBeLessThan(64 * 1024)
})
