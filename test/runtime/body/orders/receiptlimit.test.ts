import { expect, test } from 'vitest'
import type { Outcome, Receipt } from '../../../../deploy/shared/api.ts'
import type { RefusalCode } from '../../../../deploy/shared/errors.ts'
import { ReceiptLimit } from '../../../../runtime/body/orders/receiptlimit.ts'
import { plainEntry, type ReceiptEntry } from '../../../../runtime/body/slot/entries.ts'
import { eventually } from '../../../e2e/eventually.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE

/** A limit with a clock set by the test; windows end by the real clock, after `scale` minutes. */
function bed(scale = 1) {
  const clock = { now: 0 }
  const written: ReceiptEntry[] = []
  const limit = new ReceiptLimit({
    write: async (entry) => {
      written.push(entry)
      return { ...entry, seq: written.length } as Receipt
    },
    known: (fingerprint) => fingerprint.startsWith('op'),
    scale,
    now: () => clock.now,
  })
  const of = (pusher: string | undefined, { slot = 'main', code = 'role' as RefusalCode, outcome = 'refused' as Outcome } = {}) =>
    limit.record(plainEntry(slot, outcome, 0, { code, ...(pusher === undefined ? {} : { pusher }) })) // biome-ignore format: one call
  const many = async (count: number, ...about: Parameters<typeof of>) => {
    for (let i = 0; i < count; i++) await of(...about)
  }
  const sum = (pusher: string) =>
    written.filter((entry) => entry.pusher === pusher).reduce((total, { count = 1 }) => total + count, 0)
  return { clock, written, limit, of, many, sum }
}

test('HANDOVER 8.18: of 10,000 refusals 48 get receipts, a new kind still gets one, and one receipt counts the others', async () => {
  const { clock, written, limit, of, many, sum } = bed()
  await many(10_000, 'op1')
  expect(written).toHaveLength(48)
  expect(await of('op1')).toBe('counted')
  expect(await of('op1', { code: 'truncated' })).toMatchObject({ code: 'truncated' })
  expect(await of('op1', { slot: 'arm' })).toMatchObject({ slot: 'arm' })
  await many(20, 'op1', { code: 'truncated', slot: 'arm' })
  clock.now += MINUTE / 2
  const before = written.length
  await limit.close()
  expect(written.slice(before)).toEqual([
    expect.objectContaining({
      ...{ slot: 'all', outcome: 'refused', pusher: 'op1', count: 9953 + 19, periodMs: MINUTE / 2 },
      reason: '9972 more: 9953 role, 19 truncated',
    }),
  ])
  expect(sum('op1')).toBe(10_023)
})

test('HANDOVER 8.18: after the burst one refusal a minute is recorded for each operator, two for all', async () => {
  const { clock, written, many } = bed()
  for (let minute = 0; minute < 600; minute++) {
    for (const pusher of ['op1', 'op2', 'op3', 'op4', 'op5', 'op6']) await many(20, pusher)
    clock.now += MINUTE
  }
  expect(written.length).toBeLessThanOrEqual(192 + 6 + 2 * 600)
})

test('HANDOVER 8.18: a refusal of an operator without refusals for an hour is recorded, whatever others do', async () => {
  const { clock, written, of, many } = bed()
  for (const pusher of ['op1', 'op2', 'op3', 'op4', 'op5', 'op6']) await many(500, pusher)
  expect(written.length).toBeLessThan(192 + 6)
  expect(await of('op7')).toMatchObject({ pusher: 'op7' })
  clock.now += 2 * HOUR
  await many(500, 'op1')
  expect(await of('op7')).toMatchObject({ pusher: 'op7' })
})

test('HANDOVER 8.18: unknown operators share one limit, and limits are kept for at most 64 parties', async () => {
  const { written, limit, of, many } = bed()
  for (let i = 0; i < 5000; i++) await of(`SHA256:${i}`, { outcome: 'estopped' })
  expect(written).toHaveLength(48)
  for (let i = 0; i < 500; i++) await many(2, `op${i}`)
  const before = written.length
  await limit.close()
  expect(written.length - before).toBeLessThanOrEqual(65)
  const counted = written.reduce((total, { count = 1 }) => total + count, 0)
  expect(counted).toBe(5000 + 1000)
})

test('HANDOVER 8.18: the count is written when its window ends', async () => {
  const { written, many } = bed(0.0005)
  await many(100, 'op1')
  await eventually(() => written.length === 49)
  expect(written.at(-1)).toMatchObject({ outcome: 'refused', slot: 'main', code: 'role', count: 52 })
})

test('HANDOVER 8.19: stops, starts, releases and called-off pushes have the same limits; other outcomes are always recorded', async () => {
  const { written, many } = bed()
  await many(200, undefined, { outcome: 'stopped' })
  await many(200, 'op1', { outcome: 'released' })
  expect(written).toHaveLength(48 + 48)
  await many(200, 'op2', { outcome: 'called-off' })
  expect(written).toHaveLength(48 + 48 + 48)
  await many(200, 'op1', { outcome: 'rolled-back' })
  expect(written).toHaveLength(144 + 200)
})
