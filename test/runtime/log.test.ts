import { afterEach, expect, test, vi } from 'vitest'
import { chosen, followed, type LogQuery } from '../../runtime/body/endpoint/logquery.ts'
import { SlotLog } from '../../runtime/body/slot/log.ts'
import type { Slot } from '../../runtime/body/slot/slot.ts'

afterEach(() => void vi.useRealTimers())

test("HANDOVER 9.4: a program's output cannot push the runtime's lines out of the log", () => {
  const log = new SlotLog('main')
  for (let n = 0; n < 150; n++) log.add('runtime', `committed ${n}`, 1)
  for (let n = 0; n < 3000; n++) log.add('stdout', `line ${n}`, 1)
  const of = (stream: string) => log.arrivals.map(({ line }) => line).filter((line) => line.stream === stream)
  expect(log.arrivals.length).toBe(2000)
  expect(of('runtime').map(({ text }) => text)).toEqual(Array.from({ length: 150 }, (_, n) => `committed ${n}`))
  // and the runtime's lines cannot push out all of the program's
  for (let n = 0; n < 3000; n++) log.add('runtime', `crashed ${n}`, 1)
  for (let n = 0; n < 1000; n++) log.add('stdout', `later ${n}`, 1)
  expect(log.arrivals.length).toBe(2000)
  expect(of('runtime').at(-1)?.text).toBe('crashed 2999')
  expect(of('runtime').length).toBeGreaterThanOrEqual(200)
})

const query: LogQuery = { lines: 100, since: null, ago: null, level: 'debug' }

test('HANDOVER 9.6: log lines stay in order of arrival, also across slots, when the clock is set back', () => {
  vi.useFakeTimers({ toFake: ['Date', 'performance'], now: Date.parse('2026-11-28T12:00:00Z') })
  const slots = [{ log: new SlotLog('main') }, { log: new SlotLog('arm') }] as const
  const heard: string[] = []
  const end = followed(
    slots as unknown as Slot[],
    () => () => {},
    query,
    ({ text }) => heard.push(text),
  )
  const say = (text: string) => {
    slots[text.length % 2]?.log.add('log', text, 1)
    vi.advanceTimersByTime(1000)
  }
  for (const text of ['a', 'ab', 'abc']) say(text)
  vi.setSystemTime(Date.parse('2026-11-27T12:00:00Z'))
  for (const text of ['abcd', 'abcde', 'abcdef']) say(text)
  end()
  const texts = (which: Partial<LogQuery>) => chosen(slots, { ...query, ...which }).map(({ text }) => text)
  expect(texts({})).toEqual(['a', 'ab', 'abc', 'abcd', 'abcde', 'abcdef'])
  expect(texts({})).toEqual(heard)
  expect(texts({ lines: 2 })).toEqual(['abcde', 'abcdef'])
  // a length of time is measured by the monotonic clock
  expect(texts({ ago: 4500 })).toEqual(['abc', 'abcd', 'abcde', 'abcdef'])
  expect(texts({ ago: 1500 })).toEqual(['abcdef'])
  // a date is compared with the times of the lines
  expect(texts({ since: Date.parse('2026-11-28T00:00:00Z') })).toEqual(['a', 'ab', 'abc'])
})
