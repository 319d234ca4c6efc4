/** What a driver of the Linux backend gets to open the only handle of a board, `it`. */
import { parseBoard } from '../../../../drivers/board/board.ts'
import type { Board, BoardHandle } from '../../../../drivers/board/types.ts'
import type { OpenContext } from '../../../../drivers/owner/linux/device.ts'
import { EdgeReader } from '../../../../drivers/owner/linux/edges.ts'
import { loadSystem } from '../../../../drivers/owner/linux/system.ts'

export function boardOf(model: string, entry: object): Board {
  return parseBoard(JSON.stringify({ model, handles: { it: entry } }), 'board.json')
}

export function context<E extends BoardHandle>(model: string, entry: object): OpenContext<E> {
  const board = boardOf(model, entry)
  const system = loadSystem()
  const edges = new EdgeReader(system, () => {})
  return { name: 'it', entry: board.handles.it as E, board, system, edges }
}
