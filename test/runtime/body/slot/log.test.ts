import { afterEach, expect, test, vi } from 'vitest'
import { followLines, type LogQuery, selectLines } from '../../../../runtime/body/endpoint/logquery.ts'
import { newestCursor, SlotLog } from '../../../../runtime/body/slot/log.ts'
import type { Slot } from '../../../../runtime/body/slot/slot.ts'

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

const query: LogQuery = { lines: 100, since: null, ago: null, level: 'debug', after: null }

test('HANDOVER 9.6: log lines stay in order of arrival, also across slots, when the clock is set back', () => {
  vi.useFakeTimers({ toFake: ['Date', 'performance'], now: Date.parse('2026-11-28T12:00:00Z') })
  const slots = [{ log: new SlotLog('main') }, { log: new SlotLog('arm') }] as const
  const heard: string[] = []
  const end = followLines(
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
  const texts = (which: Partial<LogQuery>) => selectLines(slots, { ...query, ...which }).map(({ text }) => text)
  expect(texts({})).toEqual(['a', 'ab', 'abc', 'abcd', 'abcde', 'abcdef'])
  expect(texts({})).toEqual(heard)
  expect(texts({ lines: 2 })).toEqual(['abcde', 'abcdef'])
  // a length of time is measured by the monotonic clock
  expect(texts({ ago: 4500 })).toEqual(['abc', 'abcd', 'abcde', 'abcdef'])
  expect(texts({ ago: 1500 })).toEqual(['abcdef'])
  // a date is compared with the times of the lines
  expect(texts({ since: Date.parse('2026-11-28T00:00:00Z') })).toEqual(['a', 'ab', 'abc'])
})

/** The texts after a cursor, in one slot. */
const after = (log: SlotLog, cursor: string | undefined, which: Partial<LogQuery> = {}) =>
  selectLines([{ log }], { ...query, ...which, after: cursor ?? '' }).map(({ text }) => text)

test('CHANNEL 10.1, 10.2: a cursor selects all newer lines, however many were asked for; that of another log selects all', () => {
  const [log, arm] = [new SlotLog('main'), new SlotLog('arm')]
  const begin = newestCursor()
  for (let n = 0; n < 200; n++) (n % 2 === 0 ? log : arm).add('log', `line ${n}`, 1, n === 150 ? 'warn' : 'info')
  const cursors = new Set([log, arm].flatMap(({ arrivals }) => arrivals.map(({ line }) => line.cursor)))
  expect(cursors.size).toBe(200)
  expect(after(log, begin, { lines: 1 })).toHaveLength(100)
  const at = log.arrivals[97]?.line.cursor
  expect(after(log, at)).toEqual(['line 196', 'line 198'])
  expect(selectLines([{ log }, { log: arm }], { ...query, after: at ?? '' }).map(({ text }) => text)).toEqual(
    [195, 196, 197, 198, 199].map((n) => `line ${n}`),
  )
  expect(after(log, begin, { level: 'warn' })).toEqual(['line 150'])
  expect(after(log, newestCursor())).toEqual([])
  expect(after(log, '0123456789ab-190')).toHaveLength(100)
})

test('CHANNEL 10.4: where lines after a cursor are no longer kept, a line of the runtime stands in their place', () => {
  const log = new SlotLog('main')
  log.add('log', 'first', 7)
  const cursor = newestCursor()
  for (let n = 0; n < 1999; n++) log.add('runtime', `kept ${n}`, 7)
  expect(after(log, cursor)).toHaveLength(1999)
  log.add('runtime', 'one more', 7)
  // the first line is gone, and it was not after the cursor
  expect(after(log, cursor)).toHaveLength(2000)
  log.add('runtime', 'two more', 7)
  const [gap = '', ...rest] = after(log, cursor, { level: 'error' })
  expect(gap).toMatch(/^lines before this one are gone/)
  expect(rest).toEqual([])
  // whoever goes on after that line gets what is kept
  const [line] = selectLines([{ log }], { ...query, after: cursor })
  expect(line).toMatchObject({ text: gap, stream: 'runtime', level: 'warn', fence: 7 })
  expect(after(log, line?.cursor)).toHaveLength(2000)
  expect(after(log, line?.cursor)[0]).toBe('kept 1')
})

test('CHANNEL 10.2: a runtime that goes on with the log of another one keeps its cursors, and counts on', () => {
  const log = new SlotLog('main')
  for (const text of ['a', 'b', 'c']) log.add('log', text, 1)
  const saved = structuredClone(log.save())
  const cursor = saved.lines[1]?.line.cursor
  // as of another process: other numbers, another name
  const other = { ...saved, newest: 'ba9876543210-900', lines: saved.lines.map(({ line, ageMs }, n) => ({ ageMs, line: { ...line, cursor: `ba9876543210-${n + 5}` } })) } // biome-ignore format: one object
  const next = new SlotLog('main')
  next.restore(other)
  expect(after(next, 'ba9876543210-6')).toEqual(['c'])
  next.add('log', 'd', 1)
  expect(after(next, 'ba9876543210-6')).toEqual(['c', 'd'])
  expect(after(next, 'ba9876543210-900')).toEqual(['d'])
  expect(newestCursor()).toMatch(/^ba9876543210-\d+$/)
  // those of the log that this process had before belong to another log now
  expect(after(next, cursor)).toEqual(['a', 'b', 'c', 'd'])
})
