/** The board file of an installation: the one that a person gives, the one that is there, or a first one for this machine. */
import { readFileSync } from 'node:fs'
import { Refusal } from '../../deploy/shared/errors.ts'
import { parseBoard } from '../../drivers/board/board.ts'
import { newBoard } from '../../drivers/board/newboard.ts'
import type { Board } from '../../drivers/board/types.ts'
import { BoardError } from '../../drivers/errors.ts'
import type { Facts } from '../doctor/facts.ts'
import { modelOf } from '../doctor/models.ts'

export interface ChosenBoard {
  readonly text: string
  readonly board: Board
}

/** Throws Refusal `bad-board` with the place of the first mistake and its fix. */
export function readBoard(text: string, file: string): ChosenBoard {
  try {
    return { text, board: parseBoard(text, file) }
  } catch (error) {
    if (!(error instanceof BoardError)) throw error
    const at = error.at === undefined ? '' : `:${error.at.line}:${error.at.column}`
    const place = error.place === '' ? '' : `${error.place}: `
    throw new Refusal('bad-board', `${file}${at}: ${place}${error.why}; nothing was installed`, error.fix)
  }
}

/** Throws Refusal `bad-board`, also for the board of another model than this machine. */
export function givenBoard(file: string, machine: string | null): ChosenBoard {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? String(cause)
    throw new Refusal('bad-board', `cannot read ${file}: ${code}; nothing was installed`, 'medulla board new', {
      cause,
    })
  }
  const chosen = readBoard(text, file)
  const here = modelOf(machine)
  const { model } = chosen.board
  if (here === null || model === here || model === 'linux' || model === 'sim') return chosen
  const message = `${file} is for the model ${model}, and this is a ${machine}; nothing was installed`
  throw new Refusal('bad-board', message, `write "model": "${here}" in it, or medulla board new --model ${here}`)
}

/** A board without handles, so that the first start drives no pin. */
export function firstBoard({ model, chips }: Pick<Facts, 'model' | 'chips'>): ChosenBoard {
  const known = modelOf(model) ?? (chips.length > 0 ? 'linux' : 'sim')
  const label = chips.find((chip) => chip.label !== null)?.label ?? 'gpio0'
  const text = newBoard(known)
    .replace('"chip": "gpio0"', () => `"chip": ${JSON.stringify(label)}`)
    .replace(/^ {4}(?="(?:led|button)": )/gm, '    // ')
  return { text, board: parseBoard(text, 'board.json') }
}
