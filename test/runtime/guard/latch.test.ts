import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { StopLatch } from '../../../runtime/body/stop/stops.ts'
import { decodeStops, encodeStops, LATCH_RECORD, LatchRegion, openLatch } from '../../../runtime/guard/latch.ts'

function home(): string {
  const folder = mkdtempSync(join(tmpdir(), 'medulla-latch-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}

/** What another life of the runtime finds. */
async function reopened(folder: string): Promise<{ reason: string | undefined; main: boolean }> {
  const found = StopLatch.open(folder)
  const state = { reason: found.estop?.reason, main: found.isStopped('main') }
  await found.close()
  return state
}

test('HANDLES 6.11: a stop outlives the runtime, the first reason stays, and only a release ends it', async () => {
  const folder = home()
  const stops = StopLatch.open(folder)
  expect(stops.estop).toBeNull()
  expect(await stops.stopAll('an operator')).toBeNull()
  expect(await stops.stopAll('the input stop')).toBeNull()
  expect(await stops.stopSlot('main')).toBeNull()
  expect(await reopened(folder)).toEqual({ reason: 'an operator', main: true })
  expect(await stops.release()).toBeNull()
  expect(await stops.startSlot('main')).toBeNull()
  expect(await reopened(folder)).toEqual({ reason: undefined, main: false })
  await stops.close()
})

test('HANDLES 6.11: the file never grows, and each write replaces the older record', async () => {
  const folder = home()
  const stops = StopLatch.open(folder)
  const path = join(folder, 'stops.latch')
  const before = statSync(path)
  for (let i = 0; i < 10; i++) await stops.stopSlot(`slot${i}`)
  const after = statSync(path)
  expect([after.size, after.blocks, after.ino]).toEqual([before.size, before.blocks, before.ino])
  expect(after.size).toBe(4 * LATCH_RECORD)
  // people can read it
  expect(readFileSync(path, 'utf8').split('\n')[0]).toMatch(/^\{"sequence":\d+,"estop":null,"slots":\[.*"slot8"/)
  await stops.close()
})

test('HANDLES 6.11: a record that is half written leaves the one before; a region without any is a stop', async () => {
  const folder = home()
  const stops = StopLatch.open(folder)
  await stops.stopSlot('main')
  await stops.close()
  const path = join(folder, 'stops.latch')
  const fd = openSync(path, 'r+')
  // the next write would go to the older record: here it breaks off
  const next = encodeStops(3, { estop: null, slots: [] })
  writeSync(fd, next, 0, 25, LATCH_RECORD)
  expect(new LatchRegion(fd, 'body').read()).toEqual({ estop: null, slots: ['main'] })
  writeSync(fd, Buffer.alloc(LATCH_RECORD), 0, LATCH_RECORD, 0)
  closeSync(fd)
  expect(await reopened(folder)).toEqual({ reason: 'stops.latch cannot be read', main: false })
})

test('every flipped bit of a record is found', () => {
  const whole = encodeStops(7, { estop: { since: '2026-01-01T00:00:00.000Z', reason: 'x' }, slots: ['a', 'b'] })
  const used = whole.toString().trimEnd().length
  for (let at = 0; at < used; at++) {
    const bytes = Buffer.from(whole)
    bytes[at] = (bytes[at] as number) ^ 1
    expect(decodeStops(bytes)).toBeNull()
  }
  expect(decodeStops(whole)?.sequence).toBe(7)
})

test.each([
  ['{"since":"2026-01-01T00:00:00.000Z","reason":"an operator"}', 'an operator'],
  ['rubbish', 'estop.json cannot be read'],
])('a stop that an earlier version recorded is taken over: %s', async (text, reason) => {
  const folder = home()
  writeFileSync(join(folder, 'estop.json'), text)
  expect(await reopened(folder)).toEqual({ reason, main: false })
  expect(await reopened(folder)).toEqual({ reason, main: false })
})

test.each(['/dev/full'])('HANDLES 6.11: a disk that refuses is told, and memory has the stop: %s', async (device) => {
  const fd = openSync(device, 'r+')
  const region = new LatchRegion(fd, 'body')
  const refused = await new Promise<Error | null>((resolve) => region.write({ estop: null, slots: [] }, resolve))
  expect((refused as NodeJS.ErrnoException).code).toBe('ENOSPC')
  closeSync(fd)
})

test('a latch file is whole or not there at all', () => {
  const folder = home()
  const fd = openLatch(folder, () => ({ estop: null, slots: [] }))
  closeSync(fd)
  expect(statSync(join(folder, 'stops.latch')).mode & 0o777).toBe(0o600)
})
