/** Random walks of a state through versions of a program, with the code of the SDK and the body. */
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { fillInbox, readSnapshot } from '../../../runtime/body/slot/snapshots.ts'
import type { AnySpec, StageHooks } from '../../../runtime/sdk/hooks.ts'
import { Stage } from '../../../runtime/sdk/stage.ts'
import { Outbox, StateReader } from '../../../runtime/sdk/statearea.ts'
import { handOver as yieldTo } from '../../../runtime/sdk/switch.ts'
import { type FromProgram, type Init, RECORD_SIZE } from '../../../runtime/sdk/wire.ts'
import { readCheckpoint, writeCheckpoint } from '../../../runtime/store/checkpoint.ts'

const VERSIONS = 4
const SWAP = 'ab'.repeat(16)
const INIT: Init = {
  t: 'init',
  wire: 1,
  dataDir: '',
  file: '',
  slot: 'main',
  program: 'walker',
  version: '1.0.0',
  generation: 1,
  role: 'first',
  grants: [],
  heartbeatMs: 100,
  rehearsals: 0,
  brokerDeadlineMs: 100,
  endMs: 50,
  stopMs: 800,
  params: {},
  confine: null,
}

type State = Record<string, unknown>
/** The first and last version that knows a field, and the field's initial value. */
interface Field {
  since: number
  until: number
  fresh: unknown
}
type Fields = Readonly<Record<string, Field>>

const knows = (version: number, { since, until }: Field): boolean => since <= version && version <= until

/** A typical program: `migrate` keeps known fields, and sets missing ones to their initial values. */
function program(version: number, fields: Fields): AnySpec {
  const adapt = (from: State, known: number, wanted: number): State =>
    Object.fromEntries(
      Object.entries(fields)
        .filter(([, field]) => knows(wanted, field))
        .map(([name, field]) => [name, knows(known, field) ? from[name] : field.fresh]),
    )
  const state = {
    version,
    initial: () => ({}),
    migrate: {
      up: (old: unknown, from: number) => adapt(old as State, from, version),
      down: (now: unknown, to: number) => adapt(now as State, version, to),
    },
  }
  return { needs: {}, state, run() {} }
}

let folder: string
let fds: Record<'outbox' | 'fifo', number>
const path = (name: string): string => join(folder, name)

beforeEach(() => {
  folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'medulla-walk-'))
  for (const name of ['outbox', 'inbox', 'fifo']) writeFileSync(path(name), '')
  fds = { outbox: openSync(path('outbox'), 'r+'), fifo: openSync(path('fifo'), 'r+') }
})
afterEach(() => {
  for (const fd of Object.values(fds)) closeSync(fd)
  rmSync(folder, { recursive: true })
})

const stage = (version: number, fields: Fields): Stage => {
  const hooks: StageHooks = {
    why: () => 'swap',
    log() {},
    afterTick: () => true,
    released() {},
    failed() {},
    textOf: String,
  }
  return new Stage(program(version, fields), INIT, new Map(), { live: false, fence: 0 }, hooks)
}

/** Hands the state to the next program: from program to program at a swap, or by the body after an undone swap or a crash. */
const WAYS = ['record', 'inbox', 'checkpoint'] as const
type Way = (typeof WAYS)[number]

async function handOver(old: Stage, from: number, next: Stage, to: number, way: Way): Promise<void> {
  const outbox = new Outbox(fds.outbox)
  const mailbox = { fd: fds.fifo, position: 0 }
  if (way === 'record') {
    old.give(outbox, mailbox, SWAP, 7, to)
    next.take(mailbox, new StateReader(fds.outbox), SWAP, 7, () => {})
    return
  }
  let { meta, state } = await readSnapshot(path('outbox'), old.giveBack(outbox, way === 'inbox' ? to : from).snapshot)
  if (way === 'checkpoint') {
    const { stateVersion, encoding } = meta
    const time = new Date(0).toISOString()
    await writeCheckpoint(path('checkpoint'), { program: 'walker', stateVersion, encoding, time, bytes: state })
    const kept = await readCheckpoint(path('checkpoint'))
    if (kept === null) throw new Error('it was written')
    meta = { stateVersion: kept.stateVersion, encoding: kept.encoding, values: {}, seqnos: {}, schedule: [] }
    state = Buffer.from(kept.bytes)
  }
  const inbox = openSync(path('inbox'), 'r')
  try {
    const loaded = next.load(new StateReader(inbox), await fillInbox(path('inbox'), state, meta))
    next.begin(loaded.state, loaded.meta, 8, true)
  } finally {
    closeSync(inbox)
  }
}

/** Small values, and now and then one of many chunks. JSON has no -0. */
const value = fc
  .oneof(
    { weight: 9, arbitrary: fc.jsonValue({ maxDepth: 3 }) },
    { weight: 1, arbitrary: fc.integer({ min: 3000, max: 40_000 }).map((length) => 'ü'.repeat(length)) },
  )
  .map((any) => JSON.parse(JSON.stringify(any)) as unknown)

const field: fc.Arbitrary<Field> = fc
  .record({ a: fc.integer({ min: 1, max: VERSIONS }), b: fc.integer({ min: 1, max: VERSIONS }), fresh: value })
  .map(({ a, b, fresh }) => ({ since: Math.min(a, b), until: Math.max(a, b), fresh }))

const walk = fc.record({
  fields: fc.dictionary(fc.string({ minLength: 1, maxLength: 12 }), field, { maxKeys: 8 }),
  values: fc.array(value, { minLength: 8, maxLength: 8 }),
  start: fc.integer({ min: 1, max: VERSIONS }),
  hops: fc.array(fc.record({ to: fc.integer({ min: 1, max: VERSIONS }), way: fc.constantFrom(...WAYS) }), {
    minLength: 1,
    maxLength: 6,
  }),
})

test('P10, G11: on random walks of 1,000 states through four versions no field that both versions know is lost or changed', async () => {
  let hopped = 0
  await fc.assert(
    fc.asyncProperty(walk, async ({ fields, values, start, hops }) => {
      const known = Object.entries(fields).filter(([, one]) => knows(start, one))
      let expected: State = Object.fromEntries(known.map(([name], i) => [name, values[i]]))
      let [version, current] = [start, stage(start, fields)]
      current.begin(structuredClone(expected), null, 1, false)
      for (const { to, way } of hops) {
        // after a crash no running program could migrate a checkpoint down
        if (way === 'checkpoint' && to < version) continue
        const next = stage(to, fields)
        await handOver(current, version, next, to, way)
        const there = Object.entries(fields).filter(([, one]) => knows(to, one))
        expected = Object.fromEntries(
          there.map(([name, one]) => [name, knows(version, one) ? expected[name] : one.fresh]),
        )
        expect(next.instance?.state).toEqual(expected)
        ;[version, current] = [to, next]
        hopped++
      }
    }),
    { numRuns: 1000, seed: 4 },
  )
  expect(hopped).toBeGreaterThan(2000)
})

test('HANDOVER 6.11: rubbish of any length before the record is skipped, also if it looks like the beginning of a record', () => {
  const part = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 300 }),
    fc.constantFrom('M', 'MD', 'MDHS', 'MDHSMDHA', `${'x'.repeat(125)}MDH`).map((text) => Buffer.from(text)),
  )
  fc.assert(
    fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
      const old = stage(1, {})
      old.begin({ n: 7 }, null, 1, false)
      const rubbish = Buffer.concat(parts)
      writeFileSync(path('fifo'), rubbish)
      old.give(new Outbox(fds.outbox), { fd: fds.fifo, position: rubbish.length }, SWAP, 7, 1)
      const next = stage(1, {})
      const fd = openSync(path('fifo'), 'r')
      try {
        next.take({ fd, position: null }, new StateReader(fds.outbox), SWAP, 7, () => {})
      } finally {
        closeSync(fd)
      }
      expect(next.instance?.state).toEqual({ n: 7 })
    }),
    { numRuns: 300, seed: 6 },
  )
})

test('HANDOVER 6.4, 6.9: records of another swap or fence are skipped, and a record ahead warms up and hands nothing over', () => {
  const given = (n: number): Stage => {
    const old = stage(1, {})
    old.begin({ n }, null, 1, false)
    return old
  }
  const to = (index: number) => ({ fd: fds.fifo, position: index * RECORD_SIZE })
  const outbox = new Outbox(fds.outbox)
  given(1).give(outbox, to(0), 'ef'.repeat(16), 7, 1)
  given(2).give(outbox, to(1), SWAP, 6, 1)
  given(3).giveAhead(outbox, to(2), SWAP, 7, 1)
  given(4).give(outbox, to(3), SWAP, 7, 1)
  const next = stage(1, {})
  const warmed: boolean[] = []
  const fd = openSync(path('fifo'), 'r')
  try {
    next.take({ fd, position: null }, new StateReader(fds.outbox), SWAP, 7, () => warmed.push(next.lease.live))
  } finally {
    closeSync(fd)
  }
  expect(warmed).toEqual([false])
  expect(next.instance?.state).toEqual({ n: 4 })
})

test('HANDOVER 6.4: a candidate whose predecessor ends without its record does not go live', () => {
  const next = stage(1, {})
  writeFileSync(path('fifo'), 'rubbish')
  const fd = openSync(path('fifo'), 'r')
  try {
    expect(next.take({ fd, position: null }, new StateReader(fds.outbox), SWAP, 7, () => {})).toBe(null)
  } finally {
    closeSync(fd)
  }
  expect(next.lease.live).toBe(false)
})

test('HANDOVER 6.8: a program that cannot write the record goes on as if it had never been asked', () => {
  const old = stage(1, {})
  old.begin({ n: 7 }, null, 1, true)
  const sent: FromProgram[] = []
  const unwritable = openSync(path('fifo'), 'r')
  const wanted = { t: 'yield', swap: SWAP, fence: 7, to: 'successor', stateVersion: 1 } as const
  try {
    const to = { fd: unwritable, position: 0 }
    expect(yieldTo(old, new Outbox(fds.outbox), to, wanted, (message) => sent.push(message))).toBe(false)
  } finally {
    closeSync(unwritable)
  }
  expect(old.lease.live).toBe(true)
  expect(sent).toMatchObject([{ t: 'failed', swap: SWAP, code: 'takeover-failed' }])
})

test('HANDOVER 5.8: a state of a newer version is refused by name, also by a program with migrate.up', async () => {
  const fields = { n: { since: 1, until: VERSIONS, fresh: 0 } }
  const old = stage(3, fields)
  old.begin({ n: 1 }, null, 1, false)
  await expect(handOver(old, 3, stage(2, fields), 2, 'checkpoint')).rejects.toMatchObject({
    code: 'migrate-failed',
    message: "state is version 3, newer than this program's 2",
  })
})
