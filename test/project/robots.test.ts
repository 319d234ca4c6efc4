import { dirname } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseBoard } from '../../drivers/board/board.ts'
import { pinsOf } from '../../drivers/board/header.ts'
import type { Board } from '../../drivers/board/types.ts'
import { sources, text } from './tree.ts'

const boards = sources(['robots'], ['.json']).filter((path) => /\/board(?:\.\w+)?\.json$/.test(path))
const board = (path: string): Board => parseBoard(text(path), path)
/** The real ones, each beside a simulated one. */
const real = boards.filter((path) => !path.endsWith('/board.json'))

test.each(boards)('%s parses, and is of the model that its name says', (path) => {
  const [, model = 'sim'] = /board\.(\w+)\.json$/.exec(path) ?? []
  expect(board(path).model).toBe(model)
})

describe.each(real)('%s', (path) => {
  const folder = dirname(path)
  const { handles, timing, model } = board(path)

  test('has the handles and the timing of the simulated one', () => {
    const simulated = board(`${folder}/board.json`)
    const kinds = (of: Board['handles']) => Object.entries(of).map(([name, { kind }]) => [name, kind])
    expect(kinds(handles)).toEqual(kinds(simulated.handles))
    expect(timing).toEqual(simulated.timing)
  })

  test('is wired as the table says', () => {
    const file = folder === 'robots/blink' ? 'drivers/README.md' : `${folder}/README.md`
    const rows = [...text(file).matchAll(/^\| `(\w+)` +\| (GPIO\d+|I2C \d) +\| ([\d, ]+?) +\|/gm)]
    const wired = Object.entries(handles).map(([name, entry]) => {
      const line = 'line' in entry ? entry.line : `I2C ${'bus' in entry ? entry.bus : ''}`
      return [name, line, pinsOf(entry, model).join(', ')]
    })
    expect(rows.map(([, ...row]) => row)).toEqual(wired)
  })
})
