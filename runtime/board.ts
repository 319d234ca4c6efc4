/** The board commands of `main.ts`: check a board file, make a new one, show a header. No device is opened for them. */
import type { BoardCheck, BoardReport } from '../deploy/shared/board.ts'
import { Refusal } from '../deploy/shared/errors.ts'
import { advise } from '../drivers/board/advice.ts'
import { parseBoard } from '../drivers/board/board.ts'
import { header, pinsOf } from '../drivers/board/header.ts'
import { MODELS, type Model } from '../drivers/board/models.ts'
import { newBoard } from '../drivers/board/newboard.ts'
import { placeOf } from '../drivers/board/places.ts'
import type { Board } from '../drivers/board/types.ts'
import { BoardError } from '../drivers/errors.ts'
import { parseJson } from '../drivers/json.ts'

export function boardReport({ name, model, handles }: Board): BoardReport {
  return {
    ...(name === undefined ? {} : { name }),
    model,
    handles: Object.entries(handles).map(([name, entry]) => ({
      name,
      kind: entry.kind,
      place: placeOf(entry),
      pins: pinsOf(entry, model),
      ...('safe' in entry ? { safe: entry.safe } : {}),
      via: entry.via,
    })),
    header: header(model),
  }
}

export function checkBoard(text: string, file: string): BoardCheck {
  try {
    const board = parseBoard(text, file)
    return { board: boardReport(board), advice: advise(board, parseJson(text).value) }
  } catch (error) {
    if (!(error instanceof BoardError)) throw error
    const { line = 1, column = 1, length = 1 } = error.at ?? {}
    return { mistake: { line, column, length, place: error.place, message: error.why, fix: error.fix } }
  }
}

/** The text of a new board file for the model `given`. Throws `usage` for an unknown model. */
export function boardFor(given: string | undefined): { text: string } {
  return { text: newBoard(modelOf(given)) }
}

/** The header of a model, without handles. */
export function bareBoard(given: string): BoardReport {
  const model = modelOf(given)
  return { model, handles: [], header: header(model) }
}

function modelOf(given: string | undefined): Model {
  const model = MODELS.find((known) => known === given)
  if (model !== undefined) return model
  throw new Refusal('usage', `expected a model, one of ${MODELS.join(', ')}, got ${given ?? 'nothing'}`)
}
