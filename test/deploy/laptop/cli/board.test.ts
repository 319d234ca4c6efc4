import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { codeFrame } from '../../../../deploy/laptop/cli/frame.ts'
import { ROOT } from '../../../project/tree.ts'
import { Laptop } from './medulla.ts'

let laptop: Laptop
beforeEach(() => {
  laptop = new Laptop()
})
afterEach(() => laptop.close())

test('board new writes a file that board check accepts, and does not replace an existing file', async () => {
  const file = join(laptop.dir, 'board.json')
  expect(await laptop.run('board', 'new', '--model', 'pi4')).toEqual({
    status: 0,
    stdout: `made ${file}\n`,
    stderr: 'medulla: hint: edit it, then: medulla board check\n',
  })
  expect(await laptop.run('board', 'check')).toEqual({
    status: 0,
    stdout: [
      'ok  board.json: model pi4, 2 handles',
      '',
      'handle  kind    pin  safe  via      place',
      'led     output  11   0     inherit  GPIO17',
      'button  input   13         inherit  GPIO27',
      '',
    ].join('\n'),
    stderr: '',
  })
  const before = readFileSync(file, 'utf8')
  expect(await laptop.run('board', 'new', '--model', 'sim')).toEqual({
    status: 2,
    stdout: '',
    stderr: `medulla: error: ${file} exists already\nmedulla: hint: choose another name, or --force\n`,
  })
  expect(readFileSync(file, 'utf8')).toBe(before)
  const printed = await laptop.run('board', 'new', '--model', 'sim', '-')
  expect(printed).toMatchObject({ status: 0, stderr: '' })
  expect((await laptop.json('board', 'new', '--model', 'sim', '--force')).events).toEqual([
    { event: 'made', file, model: 'sim' },
  ])
  expect(readFileSync(file, 'utf8')).toBe(printed.stdout)
  expect(await laptop.run('board', 'new', '--model', 'pi9')).toMatchObject({
    status: 2,
    stderr:
      'medulla: error: expected a model, one of sim, pi3, pi4, pi5, zero2w, linux, got pi9\nmedulla: hint: medulla board new --help\n',
  })
})

test('HANDLES 8.7: board check shows the line of a mistake, and what to write', async () => {
  writeFileSync(
    join(laptop.dir, 'b.json'),
    '{\n  "model": "pi4",\n  "handles": {\n    "led": { "kind": "ouput", "line": 17 }\n  }\n}\n',
  )
  const { status, stdout, stderr } = await laptop.run('board', 'check', 'b.json')
  expect({ status, stdout }).toEqual({ status: 3, stdout: '' })
  expect(stderr.split('\n')).toEqual([
    '  2 |   "model": "pi4",',
    '  3 |   "handles": {',
    '> 4 |     "led": { "kind": "ouput", "line": 17 }',
    '    |              ^^^^^^^^^^^^^^^',
    '  5 |   }',
    '  6 | }',
    expect.stringMatching(
      /^medulla: error: b\.json:4:14: handles\.led\.kind: expected one of output, .*, got "ouput"$/,
    ),
    'medulla: hint: write "output"',
    '',
  ])
  const { events } = await laptop.json('board', 'check', 'b.json')
  const place = { line: 4, column: 14, length: 15, place: 'handles.led.kind', fix: 'write "output"' }
  expect(events).toMatchObject([
    { event: 'mistake', ...place },
    { event: 'error', error: { code: 'bad-board' } },
  ])
})

test('HANDLES 8.9: board check --json prints the handles and the advice', async () => {
  const board = join(ROOT, 'robots/blink/board.pi4.json')
  const { status, events } = await laptop.json('board', 'check', board)
  expect(status).toBe(0)
  expect(events[0]).toMatchObject({ event: 'board', file: board, model: 'pi4' })
  const imu = { name: 'imu', kind: 'i2c', place: 'i2c-1@0x68', pins: [3, 5], via: 'inherit' }
  expect(events[0]).toMatchObject({ handles: expect.arrayContaining([imu]) })
  expect(events.slice(1).map(({ event, about }) => [event, about])).toEqual([
    ['advice', 'enable'],
    ['advice', 'servo'],
  ])
  expect((await laptop.run('board', 'check', board)).stdout).toMatch(
    /^advice {2}enable keeps its last value .*\n {8}write "safe": /m,
  )
})

test('board without a subcommand is a usage error; board check refuses a missing file', async () => {
  expect(await laptop.run('board')).toEqual({
    status: 2,
    stdout: '',
    stderr: 'medulla: error: expected new or check\nmedulla: hint: medulla board --help\n',
  })
  expect(await laptop.run('board', 'new')).toMatchObject({ status: 2, stderr: expect.stringContaining('--model') })
  expect(await laptop.run('board', 'check')).toMatchObject({
    status: 3,
    stderr: expect.stringMatching(/cannot read .*board\.json: ENOENT\nmedulla: hint: medulla board new/),
  })
  for (const what of ['new', 'check']) {
    const { status, stdout } = await laptop.run('board', what, '--help')
    expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringContaining(`$ medulla board ${what}`) })
  }
})

test('a code frame works at the edges of a file, with tabs, and cuts its mark at the end of the line', () => {
  expect(codeFrame('\t{ "a": 1', { line: 1, column: 4, length: 99 })).toEqual(['> 1 |  { "a": 1', '    |    ^^^^^^'])
  expect(codeFrame('{\r\n', { line: 2, column: 1, length: 1 })).toEqual(['  1 | {', '> 2 |', '    | ^'])
})

test('a code frame on a terminal shows long lines around the mark, each on one line', () => {
  const code = `{ "left": { "kind": "output", "line": 2 }, "right": { "kind": "ouput", "line": 3 }, "more": "${'x'.repeat(80)}" }`
  const column = code.indexOf('"ouput"') + 1
  for (const width of [40, 60, 80]) {
    const shown = codeFrame(`{\n${code}\n}`, { line: 2, column, length: 7 }, width)
    expect(Math.max(...shown.map((line) => line.length))).toBeLessThanOrEqual(width)
    const [, marked = '', mark = ''] = shown
    expect(marked.slice(mark.indexOf('^'), mark.lastIndexOf('^') + 1)).toBe('"ouput"')
    expect(marked.endsWith('…')).toBe(true)
  }
  const wide = codeFrame(code, { line: 1, column, length: 500 }, 80)
  expect(Math.max(...wide.map((line) => line.length))).toBeLessThanOrEqual(80)
})
