/** Reads the board file of a robot, and scales its deadlines. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Refusal } from '../../../deploy/shared/errors.ts'
import { timeScale } from '../../../deploy/shared/timescale.ts'
import { parseBoard } from '../../../drivers/board/board.ts'
import type { Board, Timing } from '../../../drivers/board/types.ts'
import { BoardError } from '../../../drivers/errors.ts'
import type { BodyOptions } from '../options.ts'

/** Throws Refusal `bad-board`. */
export async function loadBoard(options: BodyOptions, home: string): Promise<Board> {
  const file = options.board ?? join(home, 'board.json')
  if (!existsSync(file)) {
    throw new Refusal('bad-board', `there is no board file ${file}`, `medulla board new --model pi4 ${file}`)
  }
  try {
    return parseBoard(await readFile(file, 'utf8'), file)
  } catch (error) {
    if (error instanceof BoardError) throw new Refusal('bad-board', error.message, error.fix)
    throw error
  }
}

/** MEDULLA_TIME_SCALE stretches every deadline, for slow machines (HANDOVER 10.2). */
export function scaled(timing: Timing): Timing {
  const scale = timeScale()
  const entries = Object.entries(timing).map(([key, value]) => [key, key.endsWith('Ms') ? value * scale : value])
  return Object.fromEntries(entries) as Timing
}
