import { expect, test } from 'vitest'
import { tableLines } from '../../../../deploy/laptop/cli/layout.ts'
import { printable } from '../../../../deploy/laptop/cli/loglines.ts'
import { pinStrip } from '../../../../deploy/laptop/cli/pinwatch.ts'
import { formatMs, type Sink, Term, timelineLines } from '../../../../deploy/laptop/cli/term.ts'
import type { PhaseTime } from '../../../../deploy/shared/api.ts'
import { Refusal } from '../../../../deploy/shared/errors.ts'

function record(isTTY: boolean): Sink & { text: string } {
  return {
    text: '',
    isTTY,
    write(text) {
      this.text += text
    },
  }
}

function make(options: { json?: boolean; tty?: boolean; env?: Record<string, string> } = {}) {
  const [stdout, stderr] = [record(options.tty ?? false), record(options.tty ?? false)]
  return { stdout, stderr, term: new Term({ json: options.json ?? false, stdout, stderr, env: options.env ?? {} }) }
}

const PHASES: PhaseTime[] = [
  { phase: 'receive', startMs: 0, ms: 2 },
  { phase: 'spawn', startMs: 2, ms: 40 },
  { phase: 'takeover', startMs: 42, ms: 0.25 },
  { phase: 'trial', startMs: 42.25, ms: 50 },
  { phase: 'commit', startMs: 92.25, ms: 0 },
]

test('the bars of the timeline are proportional, any phase above zero has one, and the gap is the last line', () => {
  expect(timelineLines(PHASES, 0.084, 64)).toMatchInlineSnapshot(`
    [
      "  receive     2.00 ms  ▉",
      "  spawn       40.0 ms  █████████████████▍",
      "  takeover   0.250 ms  ▏",
      "  trial       50.0 ms  █████████████████████▋",
      "  commit     0.000 ms",
      "  total       92.3 ms",
      "  gap        0.084 ms in which no program could write",
    ]
  `)
})

test('a timeline without a switch says so', () => {
  expect(timelineLines(PHASES.slice(0, 2), null, 64).at(-1)).toBe('  gap       none: nothing was switched')
})

test('times are printed with three digits', () => {
  expect([0.0841, 1.234, 12.34, 1234.5].map(formatMs)).toEqual(['0.084 ms', '1.23 ms', '12.3 ms', '1235 ms'])
})

test('tables are as wide as their cells', () => {
  expect(
    tableLines(
      ['a', 'name'],
      [
        ['10', 'x'],
        ['2', ''],
      ],
    ),
  ).toEqual(['a   name', '10  x', '2'])
})

test('without --json data goes to stdout, errors and hints to stderr', () => {
  const { term, stdout, stderr } = make()
  term.line('data')
  term.event({ event: 'unseen' })
  term.failure(new Refusal('role', 'observers may not push', 'ask an owner'))
  expect(stdout.text).toBe('data\n')
  expect(stderr.text).toBe('medulla: error: observers may not push\nmedulla: hint: ask an owner\n')
})

test('with --json stdout has only NDJSON', () => {
  const { term, stdout, stderr } = make({ json: true, tty: true })
  term.line('unseen')
  term.table(['unseen'], [['unseen']])
  term.progress('unseen')
  term.note('a note')
  term.event({ event: 'one' })
  term.failure(new Refusal('role', 'no'))
  const lines = stdout.text.trimEnd().split('\n')
  expect(lines.map((line) => JSON.parse(line))).toEqual([
    { event: 'one' },
    { event: 'error', error: { code: 'role', message: 'no' } },
  ])
  expect(stderr.text).toContain('a note\n')
})

test('colours are used only on a terminal, and not with NO_COLOR', () => {
  expect(make({ tty: true }).term.paint('red', 'x')).toBe('\x1b[31mx\x1b[0m')
  expect(make().term.paint('red', 'x')).toBe('x')
  expect(make({ tty: true, env: { NO_COLOR: '1' } }).term.paint('red', 'x')).toBe('x')
  expect(make({ tty: true, env: { TERM: 'dumb' } }).term.paint('red', 'x')).toBe('x')
})

test('the progress line is erased by the next output, and not printed without a terminal', () => {
  const { term, stderr } = make({ tty: true })
  term.progress('working')
  term.note('done')
  expect(stderr.text).toBe('\r\x1b[2K\x1b[2mworking\x1b[0m\r\x1b[2Kdone\n')
  const quiet = make()
  quiet.term.progress('working')
  expect(quiet.stderr.text).toBe('')
})

test('an error that is not a Refusal is shown as internal, with a hint how to see its stack', () => {
  const { term, stdout } = make({ json: true })
  term.failure(new TypeError('x is not a function'))
  expect(JSON.parse(stdout.text)).toMatchObject({ error: { code: 'internal', message: 'x is not a function' } })
})

test('a log line cannot control the terminal', () => {
  expect(printable('a\x1b[2Jb\rc\u009bd\te')).toBe('a\u{fffd}[2Jb\u{fffd}c\u{fffd}d\te')
})

test('pins are drawn with a cell for each 25 ms', () => {
  const changes = [
    { at: 110, value: 1 },
    { at: 160, value: 0 },
  ]
  expect(pinStrip(changes, { from: 50, to: 250 })).toBe('  ▔▔▁▁▁▁')
})
