import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseBoard } from '../../../../drivers/board/board.ts'
import { causeText, durationText, MAX_SAID, oneLine, quoted } from '../../../../runtime/body/slot/said.ts'
import { causeOf, type Evidence } from '../../../../runtime/body/slot/verdict.ts'

const { timing } = parseBoard(JSON.stringify({ model: 'sim', handles: {} }), 'board.json')
const NOTHING: Evidence = { said: null, ending: null, held: null, deadlineMs: null, entered: null, ranMs: null }

test('HANDOVER 3.9: a text of a program is shown as one quoted line of bounded length', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 2000 }), (text) => {
      expect(oneLine(text).length).toBeLessThanOrEqual(MAX_SAID)
      const said = quoted(text)
      expect(said).toMatch(/^"(?:[^"\\]|\\.)*"$/)
      expect(said).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u)
    }),
    { seed: 7 },
  )
  expect(causeText({ message: 'crashed after 9 s', said: 'a "b"\n\u202ec' })).toBe(
    'crashed after 9 s; the program said: "a \\"b\\" c"',
  )
})

test("HANDOVER 9.11: a crash has the length of the run and the exit, and the program's text separately", () => {
  const said = { code: 'bad-state', message: '', said: 'boom' } as const
  const died = { ...NOTHING, ending: 'exit code 1', ranMs: 9012 }
  expect(causeOf('crashed', died, timing)).toEqual({
    code: 'crashed',
    message: 'crashed after 9 s (exit code 1)',
    ranMs: 9012,
  })
  expect(causeOf('crashed', { ...died, said }, timing)).toMatchObject({ code: 'crashed', said: 'boom' })
  expect(causeOf('silent', { ...died, ending: null }, timing).message).toMatch(
    /^no heartbeat for \d+ ms, after it ran for 9 s$/,
  )
  expect(causeOf('no-yield', { ...NOTHING, deadlineMs: 100, held: 'busy' }, timing)).toEqual({
    code: 'yield-timeout',
    message: 'the old program did not yield within 100 ms',
    said: 'busy',
  })
  expect([430, 9012, 59_400, 61_000, 11_100_000, 200_000_000].map(durationText)).toEqual([
    '0.4 s',
    '9 s',
    '59 s',
    '1 min',
    '3 h 5 min',
    '2 days',
  ])
})
