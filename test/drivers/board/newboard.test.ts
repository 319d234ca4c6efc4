import { expect, test } from 'vitest'
import { advise } from '../../../drivers/board/advice.ts'
import { parseBoard } from '../../../drivers/board/board.ts'
import { header } from '../../../drivers/board/header.ts'
import { MODELS } from '../../../drivers/board/models.ts'
import { newBoard } from '../../../drivers/board/newboard.ts'
import { entry, board as schema } from '../../../drivers/board/schema.ts'
import { parseJson } from '../../../drivers/json.ts'

const EXAMPLE = /^( *)\/\/ (?=")/
const numbers = (text: string) => text.split('\n').flatMap((line, at) => (EXAMPLE.test(line) ? [at] : []))
const without = (text: string, ...lines: number[]) =>
  text
    .split('\n')
    .map((line, at) => (lines.includes(at) ? line.replace(EXAMPLE, '$1') : line))
    .join('\n')

test.each(MODELS)('HANDLES 8.8: a new board file for %s parses, also with each of its examples', (model) => {
  const text = newBoard(model)
  const board = parseBoard(text, 'new')
  expect(board.model).toBe(model)
  expect(Object.keys(board.handles)).toEqual(['led', 'button'])
  expect(advise(board, parseJson(text).value)).toEqual([])
  const examples = numbers(text)
  for (const line of examples) {
    const changed = without(text, line)
    expect(parseJson(changed).value, changed.split('\n')[line]).not.toEqual(parseJson(text).value)
    parseBoard(changed, 'new')
  }
  // all examples at once: none conflicts with another
  const all = without(text, ...examples)
  const whole = parseBoard(all, 'new')
  expect(whole.estop).toEqual({ input: 'button', level: 1 })
  const kinds = new Set(Object.values(whole.handles).map(({ kind }) => kind))
  const known = entry.options.map(({ shape }) => shape.kind.value)
  // there is an example of every kind, and advice only on "unconfined"
  expect(advise(whole, parseJson(all).value).map(({ about }) => about)).toEqual(model === 'sim' ? [] : ['unconfined'])
  expect([...kinds].sort()).toEqual([...known].sort())
  for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(120)
})

test('HANDLES 8.8: the new files of all models together contain every key', () => {
  const all = ['sim', 'pi4', 'linux'].map((model) =>
    without(newBoard(model as 'sim'), ...numbers(newBoard(model as 'sim'))),
  )
  const written = new Set(all.flatMap((text) => Object.keys(parseJson(text).value as object)))
  const keys = Object.keys(schema.shape).filter((key) => key !== '$schema')
  expect([...written].sort()).toEqual(keys.sort())
})

test('the header has 40 pins: 28 lines, 8 grounds, 2 of each voltage', () => {
  const count = (label: string) => header('pi4').filter((pin) => pin.label === label).length
  expect([header('pi4').length, count('GND'), count('3V3'), count('5V')]).toEqual([40, 8, 2, 2])
  const lines = header('pi4').flatMap(({ label }) => (label.startsWith('GPIO') ? [Number(label.slice(4))] : []))
  expect(lines.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 28 }, (_, line) => line))
  expect(header('pi5').find(({ label }) => label === 'GPIO18')).toEqual({
    pin: 12,
    label: 'GPIO18',
    functions: ['PWM2', 'SPI1 CE0', 'PCM CLK'],
  })
  expect(header('linux')).toEqual([])
  for (const { functions } of header('sim')) for (const role of functions) expect(role.length).toBeLessThanOrEqual(9)
})
