/**
 * Parses the board file, which maps handle names to hardware (HANDLES 8). A mistake throws BoardError.
 *
 * Invariant: a parsed board has every default filled in, and no line or address twice (test/drivers/board/board.test.ts).
 */
import * as z from 'zod'
import { BoardError } from '../errors.ts'
import { type Document, JsonError, parseJson } from '../json.ts'
import { checkChip, checkEstop, checkPlaces, checkSoftware, checkWires } from './checks.ts'
import { completeEntry } from './entries.ts'
import { boardErrorOf } from './mistake.ts'
import { gpioChipOf } from './models.ts'
import { board, DEFAULT_TIMING, type ParsedBoard } from './schema.ts'
import type { Board, BoardHandle } from './types.ts'

export { DEFAULT_TIMING }

/** The JSON schema that editors use for completion (HANDLES 8.6). */
export function boardJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(board, { io: 'input' })
}

/** `file` is the name shown in messages. Throws BoardError for the first mistake. */
export function parseBoard(text: string, file: string): Board {
  const { value, locate } = read(text, file)
  try {
    return boardOf(value, file)
  } catch (error) {
    if (!(error instanceof BoardError)) throw error
    throw new BoardError(file, error.place, error.why, error.fix, locate(error.place))
  }
}

function read(text: string, file: string): Document {
  try {
    return parseJson(text)
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
    throw new BoardError(file, '', error.message, error.fix, error.at)
  }
}

function withCount({
  count,
  builders,
}: {
  count?: number | undefined
  builders: string[]
}): NonNullable<Board['requireReproduced']> {
  return { count: count ?? builders.length, builders }
}

function boardOf(json: unknown, file: string): Board {
  const parsed = board.safeParse(json, { reportInput: true })
  if (!parsed.success) throw boardErrorOf(file, json, parsed.error.issues[0] as z.core.$ZodIssue)
  const { $schema: _, name, chip: given, estop, requireReproduced, handles: entries, ...rest } = parsed.data
  const handles: Record<string, BoardHandle> = Object.create(null)
  for (const name in entries) {
    handles[name] = completeEntry(file, rest.model, name, entries[name] as ParsedBoard['handles'][string])
  }
  const chip = given ?? gpioChipOf(rest.model)
  const result: Board = {
    ...rest,
    ...(name === undefined ? {} : { name }),
    ...(chip === undefined ? {} : { chip }),
    ...(estop === undefined ? {} : { estop }),
    // without a count, all of the builders must agree
    ...(requireReproduced === undefined ? {} : { requireReproduced: withCount(requireReproduced) }),
    handles,
  }
  checkPlaces(file, result)
  checkSoftware(file, result)
  checkWires(file, result)
  checkEstop(file, result)
  checkChip(file, result)
  return result
}
