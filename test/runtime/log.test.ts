import { expect, test } from 'vitest'
import { SlotLog } from '../../runtime/body/log.ts'

test('HANDOVER 9.4: a program that prints all it may cannot push out what the runtime said', () => {
  const log = new SlotLog('main')
  for (let n = 0; n < 150; n++) log.add('runtime', `committed ${n}`, 1)
  for (let n = 0; n < 3000; n++) log.add('stdout', `line ${n}`, 1)
  const of = (stream: string) => log.lines.filter((line) => line.stream === stream)
  expect(log.lines.length).toBe(2000)
  expect(of('runtime').map(({ text }) => text)).toEqual(Array.from({ length: 150 }, (_, n) => `committed ${n}`))
  // nor can the runtime push out all that the program said
  for (let n = 0; n < 3000; n++) log.add('runtime', `crashed ${n}`, 1)
  for (let n = 0; n < 1000; n++) log.add('stdout', `later ${n}`, 1)
  expect(log.lines.length).toBe(2000)
  expect(of('runtime').at(-1)?.text).toBe('crashed 2999')
  expect(of('runtime').length).toBeGreaterThanOrEqual(200)
})
