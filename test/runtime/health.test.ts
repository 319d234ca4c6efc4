import { expect, onTestFinished, test, vi } from 'vitest'
import { Beginning } from '../../runtime/body/service/beginning.ts'
import { sickness } from '../../runtime/body/service/health.ts'
import { statusLine } from '../../runtime/body/service/statusline.ts'
import { Monitor } from '../../runtime/body/slot/monitor.ts'

test('HANDOVER 16.4: only a duty that is more than 5 s late makes the body sick', () => {
  const well = { endpointMs: 5000, silentMs: new Map([['main', 5000]]) }
  expect(sickness(well, 1)).toBe(null)
  expect(sickness({ ...well, endpointMs: 5001 }, 1)).toBe('the endpoint is silent, and was not replaced for 5001 ms')
  expect(sickness({ ...well, silentMs: new Map([['arm', 6000]]) }, 1)).toBe(
    'the program in slot arm is silent, and was not ended for 6000 ms',
  )
  expect(sickness({ ...well, endpointMs: 14_000 }, 3)).toBe(null)
})

test('HANDOVER 16.4: a silent program counts until the slot has dealt with its silence', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setImmediate', 'clearImmediate', 'performance'] })
  onTestFinished(() => void vi.useRealTimers())
  let lost = 0
  const monitor = new Monitor(20, () => lost++, () => {}) // biome-ignore format: one call
  expect(monitor.overdueMs).toBe(0)
  monitor.watch()
  expect(monitor.overdueMs).toBe(0)
  await vi.advanceTimersByTimeAsync(21)
  expect(lost).toBe(1)
  const late = monitor.overdueMs
  expect(late).toBeGreaterThan(0)
  await vi.advanceTimersByTimeAsync(50)
  expect(monitor.overdueMs).toBe(late + 50)
  monitor.rest()
  expect(monitor.overdueMs).toBe(0)
})

test('HANDOVER 16.2: the beginning is over when the last slot that was to be started has left `restarting`', () => {
  let over = 0
  const empty = new Beginning(() => over++)
  empty.complete()
  expect(over).toBe(1)
  const beginning = new Beginning(() => over++)
  beginning.add('main')
  beginning.add('arm')
  beginning.complete()
  beginning.moved('main', 'restarting')
  beginning.moved('main', 'cooling')
  beginning.moved('other', 'running')
  expect(over).toBe(1)
  beginning.moved('arm', 'running')
  beginning.moved('arm', 'running')
  expect(over).toBe(2)
})

test('HANDOVER 16.2: the status line names stops, endpoint and slots', () => {
  const slot = { slot: 'main', state: 'running', fence: 1, restarts: 0, log: { lines: 0, dropped: 0 }, lastGapMs: null, handles: [] } // biome-ignore format: one object
  const running = { ...slot, program: 'blinky', version: '1.0.0' }
  expect(statusLine({ estop: null, slots: [] }, true)).toBe('no program yet')
  const pairing = { until: '2026-11-30T14:05:00.000Z', tries: 3 }
  expect(statusLine({ estop: null, pairing, slots: [] }, true)).toBe('pairing window open; no program yet')
  expect(statusLine({ estop: null, slots: [running, { ...slot, slot: 'arm', state: 'idle' }] }, true)).toBe(
    'main: blinky 1.0.0 running; arm: idle',
  )
  const estop = { since: '2026-01-01', reason: 'the input stop' }
  expect(statusLine({ estop, slots: [{ ...running, waits: 'the emergency stop' }] }, false)).toBe(
    'emergency stop; no endpoint; main: blinky 1.0.0 waiting',
  )
})
