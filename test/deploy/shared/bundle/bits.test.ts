import { expect, test } from 'vitest'
import { openInner } from '../../../../deploy/shared/bundle/open.ts'
import { openSealed, seal } from '../../../../deploy/shared/bundle/seal.ts'
import { SCALE } from '../../../e2e/eventually.ts'
import { goodBundle } from '../../../fixtures/bundles.ts'
import { flip, seeded } from '../../../fixtures/random.ts'
import { refusal } from '../../../fixtures/tools.ts'

const { operators, robot, innerBytes, inner } = await goodBundle()

test('P6: every bit of release, signature and payload, sealed again: refused', {
  timeout: 300_000 * SCALE,
}, async () => {
  const parts = { release: inner.release, signature: Buffer.from(inner.signature), payload: inner.payload }
  const total = Object.values(parts).reduce((sum, part) => sum + part.length, 0)
  expect(total).toBeLessThanOrEqual(2048)
  let flips = 0
  for (const [name, part] of Object.entries(parts)) {
    const at = Buffer.from(innerBytes).indexOf(part)
    for (let bit = 0; bit < part.length * 8; bit++) {
      const sealed = await seal(flip(innerBytes, at * 8 + bit), [robot.age])
      const refused = await refusal(async () => openInner(await openSealed(sealed, robot.identity), operators))
      expect(refused.code).toBe(name === 'payload' ? 'bad-hash' : 'bad-signature')
      flips++
    }
  }
  expect(flips).toBe(total * 8)
})

test('P6: every bit of the age header and 500 seeded bits of its body: refused', async () => {
  const sealed = await seal(Buffer.alloc(4000, 'x'), [robot.age])
  const headerEnd = Buffer.from(sealed).indexOf('\n', Buffer.from(sealed).indexOf('\n--- ') + 1) + 1
  const codes = new Set<string>()
  for (let bit = 0; bit < headerEnd * 8; bit++)
    codes.add((await refusal(() => openSealed(flip(sealed, bit), robot.identity))).code)
  const random = seeded(20)
  for (let i = 0; i < 500; i++) {
    const bit = headerEnd * 8 + Math.floor(random() * (sealed.length - headerEnd) * 8)
    const refused = await refusal(() => openSealed(flip(sealed, bit), robot.identity))
    expect(refused.code).toBe('bad-bundle')
  }
  for (const code of codes)
    expect(['bad-bundle', 'unknown-format', 'wrong-robot', 'truncated', 'too-large']).toContain(code)
})
