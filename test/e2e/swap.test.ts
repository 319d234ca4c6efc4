import { readFileSync, readlinkSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { LogLine, Receipt } from '../../deploy/shared/api.ts'
import { openSealed } from '../../deploy/shared/bundle/seal.ts'
import { FD } from '../../runtime/sdk/wire.ts'
import { tapWire } from '../deploy/shared/channel/peers.ts'
import { payloadOf } from './bytes.ts'
import { eventually } from './eventually.ts'
import { build } from './programs.ts'
import { ended, TestRobot } from './robot.ts'
import { accepted, counts, expectNoTickLost } from './trace.ts'

const SWAPS = 20

let robot: TestRobot

beforeAll(async () => {
  robot = await TestRobot.start()
  await robot.commit('counter')
})
afterAll(async () => robot?.close())

/** Phases are consecutive intervals whose times add up, within floating-point error (HANDOVER 1.2). */
function expectWhole({ phases, wallMs, gapMs, outcome, edges }: Receipt): void {
  expect(edges).toBe(0)
  expect(outcome).toBe('committed')
  expect(gapMs).toBeGreaterThan(0)
  // both ends of the gap are in these phases (HANDOVER 1.3)
  const around = phases.filter(({ phase }) => ['yield', 'transfer', 'takeover', 'trial'].includes(phase))
  expect(gapMs).toBeLessThan(around.reduce((sum, { ms }) => sum + ms, 0))
  expect(phases.map(({ phase }) => phase)).toEqual('verify stage spawn rehearse copy arm yield transfer takeover trial commit'.split(' ')) // biome-ignore format: one line
  expect(Math.abs(phases.reduce((sum, { ms }) => sum + ms, 0) - wallMs)).toBeLessThan(0.01)
  for (const [i, { startMs, ms }] of phases.entries()) {
    expect(Math.abs((phases[i + 1]?.startMs ?? wallMs) - (startMs + ms))).toBeLessThan(0.01)
  }
}

test(`HANDOVER 1.2, 6.1: P9, P12, G8: ${SWAPS} swaps of a 1 kHz writer: one writer at a time, no tick lost, the gap of each in ms, and sessions live on`, {
  tags: ['slow'],
}, async () => {
  const lines: LogLine[] = []
  const leave = new AbortController()
  const following = (async () => {
    for await (const line of robot.client.logs('main', { lines: 0, follow: true, signal: leave.signal }))
      lines.push(line)
  })()
  const pins: string[] = []
  const watching = (async () => {
    for await (const pin of robot.client.pins({ follow: true, signal: leave.signal })) pins.push(pin.name)
  })()
  const mark = robot.trace.mark()
  const receipts: Receipt[] = []
  for (let i = 0; i < SWAPS; i++) receipts.push(await robot.commit('counter', { version: `1.${i % 2}.0` }))
  await robot.trace.more('dial')

  const entries = robot.trace.since(mark)
  expectNoTickLost(entries)
  expect(entries.filter((entry) => !entry.accepted)).toEqual([])
  // the rate stays the same to the end, so nothing accumulates
  expect(new Set(accepted(entries, 'dial').map(({ fence }) => fence)).size).toBe(SWAPS + 1)
  robot.check()

  for (const [i, receipt] of receipts.entries()) {
    expectWhole(receipt)
    if (i > 0) expect(receipt).toMatchObject({ from: receipts[i - 1]?.to, seq: (receipts[i - 1]?.seq ?? 0) + 1 })
  }
  const all = robot.receipts()
  expect(all.slice(-SWAPS)).toEqual(receipts)
  expect((await robot.slot()).lastGapMs).toBe(receipts.at(-1)?.gapMs)

  // both streams were opened before the first swap
  await eventually(() => lines.filter(({ text }) => / runs$/.test(text)).length === SWAPS)
  const seen = pins.length
  await eventually(() => pins.length > seen)
  leave.abort()
  await Promise.all([following, watching])
})

test('G12: the old program runs until the new one has sent ready', async () => {
  const before = await robot.running()
  const mark = robot.trace.mark()
  const receipt = await robot.commit('slow-import')
  const after = await robot.running(before.pid)
  await robot.trace.more('dial')
  const entries = robot.trace.since(mark)
  expectNoTickLost(entries)
  const dial = accepted(entries, 'dial')
  const first = dial.findIndex(({ fence }) => fence === after.fence)
  const old = dial.slice(0, first)
  expect(new Set(old.map(({ fence }) => fence))).toEqual(new Set([before.fence]))
  // the old program kept ticking while the new one loaded
  const loading = receipt.phases.filter(({ phase }) => phase === 'spawn' || phase === 'rehearse')
  expect(loading.reduce((sum, { ms }) => sum + ms, 0)).toBeGreaterThan(490)
  const span = Number((old.at(-1)?.ns ?? 0n) - (old[0]?.ns ?? 0n)) / 1e6
  expect(span).toBeGreaterThan(490)
  expect(old.length).toBeGreaterThan(100)
  expectWhole(receipt)
  robot.check()
})

test('HANDOVER 3.3, 3.4: a program has every descriptor of its table, and an environment of four names', async () => {
  await robot.commit('counter')
  const { pid } = await robot.running()
  const link = (fd: number): string => readlinkSync(`/proc/${pid}/fd/${fd}`)
  const table = Array.from({ length: FD.firstGrant }, (_, fd) => link(fd))
  expect(table[0]).toBe('/dev/null')
  // It has a predecessor, so no place of the table is left empty.
  for (const fd of Object.values(FD).filter((fd) => fd < FD.firstGrant))
    expect(table[fd], `${fd}`).not.toBe('/dev/null')
  const all = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0').filter(Boolean)
  const names = all.filter((one) => process.env.MEDULLA_SANDBOX !== 'bwrap' || !one.startsWith('PWD='))
  expect(names.map((one) => one.split('=')[0]).sort()).toEqual(['LANG', 'PATH', 'TZ', 'UV_USE_IO_URING'])
  expect(names).toContain('UV_USE_IO_URING=0')
  expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).toContain('sdk/loader.js')
})

test('G11: the state goes from the old version to the new one and back without loss', async () => {
  await robot.commit('counter', { program: 'g11', version: '1.0.0' })
  const mark = robot.trace.mark()
  const up = await robot.commit('counter-v2', { program: 'g11', version: '2.0.0' })
  await robot.trace.more('dial')
  expect((await robot.slot()).previous).toBe(up.from)
  const back = await robot.rollback()
  expect(back).toMatchObject({ outcome: 'committed' })
  expect(back.receipt).toMatchObject({ from: up.to, to: up.from })
  await robot.trace.more('dial')
  expect(await robot.slot()).toMatchObject({ version: '1.0.0', digest: up.from })
  const entries = robot.trace.since(mark)
  expect(new Set(accepted(entries, 'dial').map(({ fence }) => fence)).size).toBe(3)
  expectNoTickLost(entries)
  robot.check()
})

test('a signed rollback order works once: the same order again is refused', async () => {
  const order = await robot.order()
  expect(await ended(robot.client.carryOut(order))).toMatchObject({ outcome: 'committed' })
  expect(await ended(robot.client.carryOut(order))).toMatchObject({ outcome: 'refused', code: 'stale-order' })
  robot.check()
})

test('P4: the bytes on the wire hold no 16-byte window of the program', async () => {
  const wire = await tapWire(robot.port)
  const client = await robot.connect(robot.owner, wire.port)
  const { bytes } = await robot.bundle('counter')
  expect(await ended(client.push('main', bytes))).toMatchObject({ outcome: 'committed' })
  client.close()
  wire.close()
  const inner = Buffer.from(await openSealed(bytes, robot.ageSecret))
  const parts = [inner, await payloadOf(inner), ...(await build('counter')).files.map((file) => file.bytes)]
  const windows = new Set<string>()
  for (const part of parts) {
    const text = Buffer.from(part).toString('latin1')
    for (let at = 0; at + 16 <= text.length; at++) windows.add(text.slice(at, at + 16))
  }
  const hits = (text: string): number => {
    let found = 0
    for (let at = 0; at + 16 <= text.length; at++) if (windows.has(text.slice(at, at + 16))) found++
    return found
  }
  const recorded = wire.connections.flatMap(({ up, down }) => [Buffer.concat(up), Buffer.concat(down)])
  expect(recorded.reduce((sum, { length }) => sum + length, 0)).toBeGreaterThan(bytes.length)
  expect(recorded.map((record) => hits(record.toString('latin1')))).toEqual(recorded.map(() => 0))
  // counter-check: the search finds bytes that are there
  expect(hits(inner.toString('latin1'))).toBeGreaterThan(1000)
  expect(counts(robot.trace.read()).length).toBeGreaterThan(0)
})
