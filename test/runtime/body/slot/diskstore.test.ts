/** Which release starts when the committed one was changed on disk. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { DiskSlotStore } from '../../../../runtime/body/slot/diskstore.ts'
import { StopLatch } from '../../../../runtime/body/stop/stops.ts'
import { Bundles } from '../../../../runtime/store/bundles.ts'
import { Slots } from '../../../../runtime/store/slots.ts'
import { newSigner } from '../../../fixtures/bundles.ts'
import { flip } from '../../../fixtures/random.ts'
import { tempFolder } from '../../../fixtures/tools.ts'
import { META, makeVerified } from '../../store/bed.ts'

test('HANDOVER 9.13: Y10: instead of a damaged release, the newest one that ran well starts, before one that crashed', async () => {
  const dir = tempFolder()
  const [slots, bundles, signer] = [await Slots.open({ dir }), await Bundles.open(join(dir, 'store')), newSigner()]
  const digests: string[] = []
  for (let counter = 1; counter <= 4; counter++) {
    const one = await makeVerified(signer, { counter })
    await bundles.put(one, META)
    await slots.commit('main', one.digest, { kind: 'program', program: 'blink', counter })
    digests.push(one.digest)
  }
  const [first = '', second = '', third = '', fourth = ''] = digests
  const run = { ranMs: 90_000, well: true, crashes: 0, crashMs: null }
  await slots.setRun('main', first, run, true)
  await slots.setRun('main', third, { ...run, well: false, crashes: 4, crashMs: 3 }, true)
  const damage = (digest: string) => {
    const path = join(dir, 'store', digest.replace('sha256:', ''), 'payload.tar.gz')
    writeFileSync(path, flip(readFileSync(path), 999))
  }
  const errors: string[] = []
  const store = new DiskSlotStore('main', { slots, bundles, stops: StopLatch.open(dir) }, (text) => errors.push(text))
  const started = async () => (await store.committed())?.digest
  expect(await started()).toBe(fourth)
  expect(store.status(true)).not.toHaveProperty('alarm')
  damage(fourth)
  // the first ran well; of the second nothing is known; the third crashed
  expect(await store.committed()).toMatchObject({ digest: first, instead: { digest: fourth, code: 'bad-hash' } })
  expect(store.status(true).alarm).toContain(`payload.tar.gz of ${fourth} was changed on disk`)
  damage(first)
  expect(await started()).toBe(second)
  damage(second)
  expect(await started()).toBe(third)
  expect(slots.get('main')).toMatchObject({ current: third, previous: null, history: [] })
  // the floor stays: none of these can be followed by an older release
  expect(slots.floor('program', 'blink')).toBe(4)
  damage(third)
  await expect(store.committed()).rejects.toMatchObject({ code: 'bad-hash' })
  expect(errors).toHaveLength(3)
})
