import { expect, test } from 'vitest'
import { common } from '../../../deploy/laptop/cli/pushmany.ts'

const DAY_MS = 24 * 3_600_000
const range = (least: number, now: number) => ({ least, most: now + DAY_MS, now, synchronised: true })

test('BUNDLE 8.9: one bundle for several robots has a counter that all of them take, or is not signed', () => {
  const now = Date.parse('2026-01-01')
  expect(common([range(5, now), range(now - 1, now + 10)])).toEqual({
    ...{ least: now - 1, most: now + DAY_MS, now, synchronised: true },
  })
  expect(() => common([range(5, now - 3 * DAY_MS), range(now, now)])).toThrow(
    expect.objectContaining({ code: 'ahead-of-clock' }),
  )
})
