import { expect, test } from 'vitest'
import { encodeInner, type Inner, parseInner } from '../../../../deploy/shared/bundle/inner.ts'
import { openInner } from '../../../../deploy/shared/bundle/open.ts'
import { unpackPayload } from '../../../../deploy/shared/bundle/payload.ts'
import { decide } from '../../../../deploy/shared/bundle/policy.ts'
import { encodeRelease } from '../../../../deploy/shared/bundle/release.ts'
import { openSealed, seal } from '../../../../deploy/shared/bundle/seal.ts'
import { encodeJson } from '../../../../deploy/shared/bundle/strict.ts'
import { writeTar } from '../../../../deploy/shared/bundle/tar.ts'
import { goodBundle, newRobot, newSigner } from '../../../fixtures/bundles.ts'
import { refusal } from '../../../fixtures/tools.ts'
import { factsOf } from './policy.facts.ts'

const { signer, operators, robot, bundle, innerBytes, inner } = await goodBundle()

test('what was made is what is opened, and its digest is the one of the maker', async () => {
  const opened = await openInner(innerBytes, operators)
  expect(opened.release).toEqual(bundle.release)
  expect(opened.digest).toBe(bundle.digest)
  expect(opened.signer).toBe(signer.fingerprint)
  const files = await unpackPayload(opened.payload, opened.release)
  expect([...files.keys()]).toContain('program.mjs')
})

test('G7: unsigned is refused, and so is a signer who is no operator', async () => {
  const { release, payload } = inner
  for (const signature of ['', null]) {
    const files = [
      { name: 'release', bytes: release },
      ...(signature === null ? [] : [{ name: 'release.sig', bytes: Buffer.from(signature) }]),
      { name: 'payload.tar.gz', bytes: payload },
    ]
    const bytes = await writeTar(files, 'given')
    expect((await refusal(() => openInner(bytes, operators))).code).toBe('unsigned')
  }
  const stranger = newSigner()
  const theirs = await encodeInner({ ...inner, signature: await stranger.sign('release@medulla', release) })
  const refused = await refusal(() => openInner(theirs, operators))
  expect(refused.code).toBe('unknown-operator')
  expect(refused.message).toContain(stranger.fingerprint)
  const otherKind = await encodeInner({ ...inner, signature: await signer.sign('order@medulla', release) })
  expect((await refusal(() => openInner(otherKind, operators))).code).toBe('bad-signature')
  expect((await refusal(() => openInner(innerBytes, new Set()))).code).toBe('unknown-operator')
})

test('Y8: the signature travels in the bundle: opened, and sealed again by somebody else, it still says who signed', async () => {
  const other = await newRobot()
  const carried = await seal(await openSealed(bundle.bytes, robot.identity), [other.age])
  const opened = await openInner(await openSealed(carried, other.identity), operators)
  expect(opened).toMatchObject({ digest: bundle.digest, signer: signer.fingerprint, signature: inner.signature })
})

test('G7: a robot cannot forward what it was sent: the signature covers the recipients', async () => {
  const other = await newRobot()
  const forwarded = await seal(await openSealed(bundle.bytes, robot.identity), [other.age])
  const opened = await openInner(await openSealed(forwarded, other.identity), operators)
  const refused = decide(opened.release, opened.digest, null, factsOf({ robot: other.id }))
  expect(refused?.code).toBe('wrong-robot')
  const added = encodeRelease({ ...opened.release, recipients: [other.id] })
  const changed = await encodeInner({ ...inner, release: added })
  expect((await refusal(() => openInner(changed, operators))).code).toBe('bad-signature')
})

test('BUNDLE 1.1, 9.4: the signature is checked before the release is read', async () => {
  const nonsense = Buffer.from('not JSON at all')
  const wrongSigner = await encodeInner({ ...inner, release: nonsense })
  expect((await refusal(() => openInner(wrongSigner, operators))).code).toBe('bad-signature')
  const rightSigner = await encodeInner({
    ...inner,
    release: nonsense,
    signature: await signer.sign('release@medulla', nonsense),
  })
  expect((await refusal(() => openInner(rightSigner, operators))).code).toBe('bad-bundle')
})

test('P5: a newer release format, validly signed, is refused by name', async () => {
  const release = encodeJson({ format: 'medulla-release/2', program: 'blink' })
  const bytes = await encodeInner({ ...inner, release, signature: await signer.sign('release@medulla', release) })
  const refused = await refusal(() => openInner(bytes, operators))
  expect(refused.code).toBe('unknown-format')
  expect(refused.message).toBe('release: unknown format "medulla-release/2", known: medulla-release/1')
})

test('BUNDLE 7.1, 7.2: three files, these, in this order, each within its limit', async () => {
  const named = (parts: [string, Uint8Array][]) =>
    writeTar(
      parts.map(([name, bytes]) => ({ name, bytes })),
      'given',
    )
  const [r, s, p]: [string, Uint8Array][] = [
    ['release', inner.release],
    ['release.sig', Buffer.from(inner.signature)],
    ['payload.tar.gz', inner.payload],
  ]
  if (!r || !s || !p) throw new Error('no parts')
  for (const parts of [
    [],
    [r, s],
    [s, p],
    [r, p, s],
    [p, r, s],
    [r, s, p, ['extra', Buffer.from('x')] as [string, Uint8Array]],
  ]) {
    expect((await refusal(async () => parseInner(await named(parts)))).code).toBe('bad-bundle')
  }
  const large: Partial<Inner>[] = [
    { release: Buffer.alloc(65537) },
    { signature: 'x'.repeat(4097) },
    { payload: Buffer.alloc(32505857) },
    { payload: Buffer.alloc(32 * 1024 * 1024) },
  ]
  for (const over of large) {
    expect((await refusal(async () => parseInner(await encodeInner({ ...inner, ...over })))).code).toBe('too-large')
  }
  for (const length of [0, 1, 512, 1024, 2048, innerBytes.length - 512, innerBytes.length - 1]) {
    expect(['truncated', 'bad-bundle']).toContain(
      (await refusal(() => parseInner(innerBytes.subarray(0, length)))).code,
    )
  }
})
