import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { decodeState, encodeState, migrateDown, migrateUp, unserialisable } from '../../../runtime/sdk/state.ts'
import { MAX_STATE, Outbox, StateError, StateReader } from '../../../runtime/sdk/statearea.ts'
import { type Meta, RECORD_SIZE, RecordBuffer } from '../../../runtime/sdk/wire.ts'

const META: Meta = { stateVersion: 1, encoding: 'bytes', values: { led: 1 }, seqnos: {}, schedule: [] }
let folder: string
let fd: number

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'medulla-state-'))
  writeFileSync(join(folder, 'area'), '')
  fd = openSync(join(folder, 'area'), 'r+')
})
afterEach(() => {
  closeSync(fd)
  rmSync(folder, { recursive: true })
})

const bytes = (length: number, seed = 1) => Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 7) & 255)

test.each([0, 1, 1000, 8192, 8193, 100_000])(
  'a state of %i bytes is read as it was written, with its meta',
  (length) => {
    const state = bytes(length)
    const snapshot = new Outbox(fd).write(state, META)
    const read = new StateReader(fd).read(snapshot)
    expect(Buffer.compare(read.state, state)).toBe(0)
    expect(read.meta).toEqual(META)
  },
)

test('only changed chunks are written and read again', () => {
  const outbox = new Outbox(fd)
  const reader = new StateReader(fd)
  const state = bytes(1024 * 1024)
  const first = outbox.write(state, META)
  expect([first.changed, reader.read(first).changed]).toEqual([128, 128])
  state[500_000] = 1 + (state[500_000] as number)
  const second = outbox.write(state, META)
  const read = reader.read(second)
  expect([second.changed, read.changed]).toEqual([1, 1])
  expect(Buffer.compare(read.state, state)).toBe(0)
})

test('a state that grows and shrinks between snapshots is read whole each time', () => {
  const outbox = new Outbox(fd)
  const reader = new StateReader(fd)
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 70_000 }), fc.nat(255)), { maxLength: 6 }), (steps) => {
      for (const [length, seed] of steps) {
        const state = bytes(length, seed)
        expect(Buffer.compare(reader.read(outbox.write(state, META)).state, state)).toBe(0)
      }
    }),
    { numRuns: 60, seed: 3 },
  )
})

test.each([
  ['the meta', 3],
  ['the chunk list', 110],
  ['the state', 512 * 1024 + 40_000],
])('HANDOVER 5.7: a snapshot with a byte of %s changed after the record is not used', (_, at) => {
  const snapshot = new Outbox(fd).write(bytes(50_000), META)
  writeSync(fd, Buffer.from([0xee]), 0, 1, at)
  expect(() => new StateReader(fd).read(snapshot)).toThrow(StateError)
})

test('HANDOVER 5.3: a state over 64 MiB and impossible sizes are refused', () => {
  expect(() => new Outbox(fd).write(new Uint8Array(MAX_STATE + 1), META)).toThrow('at most')
  const snapshot = new Outbox(fd).write(bytes(10), META)
  for (const wrong of [
    { metaLength: 0 },
    { metaLength: 70_000 },
    { length: -1 },
    { length: 20_000 },
    { chunkCount: 2 },
  ]) {
    expect(() => new StateReader(fd).read({ ...snapshot, ...wrong })).toThrow(StateError)
  }
  expect(() => new StateReader(fd).read({ ...snapshot, length: 8_000 })).toThrow('ends early')
})

test('HANDOVER 6.3: a record is decoded as it was encoded, and other bytes are skipped', () => {
  const snapshot = { metaLength: 120, chunkCount: 64, length: 1_048_576, root: 'ab'.repeat(32) }
  const record = {
    kind: 'state' as const,
    swap: '0f'.repeat(16),
    fence: 2 ** 40 + 1,
    snapshot,
    revokedNs: 1.5e15,
    sentNs: 1.5e15 + 7,
  }
  const buffer = new RecordBuffer()
  buffer.encode(record)
  expect(buffer.bytes.length).toBe(RECORD_SIZE)
  expect(buffer.decode()).toEqual(record)
  for (const at of [0, 4]) {
    const wrong = new RecordBuffer()
    buffer.bytes.copy(wrong.bytes)
    wrong.bytes[at] = (wrong.bytes[at] as number) ^ 1
    expect(wrong.decode()).toBeNull()
  }
})

test('HANDOVER 5.5: a value that JSON would lose is named with its place', () => {
  const lost: [unknown, string][] = [
    [{ a: Number.NaN }, 'state.a is NaN'],
    [{ a: { b: [1, Number.POSITIVE_INFINITY] } }, 'state.a.b[1] is Infinity'],
    [{ f: () => 1 }, 'state.f is a function'],
    [{ m: new Map() }, 'state.m is a Map'],
    [{ t: new Date() }, 'state.t is a Date'],
    [{ n: 1n }, 'state.n is a bigint'],
    [{ bytes: new Uint8Array(2) }, 'state.bytes is a Uint8Array'],
  ]
  for (const [state, message] of lost) expect(unserialisable(state)).toBe(message)
  const circle: { me?: unknown } = {}
  circle.me = circle
  expect(unserialisable(circle)).toContain('nested deeper')
})

test('any JSON state is decoded equal', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const { bytes: encoded, encoding } = encodeState(value)
      const text = JSON.stringify(value)
      expect(JSON.stringify(decodeState(Buffer.from(encoded), encoding))).toBe(text)
    }),
    { numRuns: 200, seed: 5 },
  )
})

test('HANDOVER 5.6: G11: state is migrated up and down between versions, and a missing migration is refused by name', () => {
  const spec = {
    version: 3,
    initial: () => ({ n: 0 }),
    migrate: {
      up: (old: unknown, from: number) => ({ n: (old as { count: number }).count + from }),
      down: (now: { n: number }, to: number) => ({ count: now.n - to }),
    },
  }
  expect(migrateUp(spec, { count: 5 }, 2)).toEqual({ n: 7 })
  expect(migrateDown(spec, { n: 7 }, 2)).toEqual({ count: 5 })
  expect(migrateUp(spec, { n: 1 }, 3)).toEqual({ n: 1 })
  expect(migrateUp(spec, null, 0)).toEqual({ n: 0 })
  const bare = { version: 3, initial: () => ({ n: 0 }) }
  expect(() => migrateUp(bare, {}, 2)).toThrow('state is version 2, this program has 3 and no migrate.up')
  expect(() => migrateDown(bare, { n: 1 }, 2)).toThrow('no migrate.down from version 3 to 2')
})
