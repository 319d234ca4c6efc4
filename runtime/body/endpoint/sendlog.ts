/**
 * Sends the lines of a log to the endpoint, and goes on with new ones when it is followed. Invariant: a line is sent once,
 * among the stored lines or after them, however long the request waited for its turn (CHANNEL 10.3;
 * test/runtime/body/endpoint/sendlog.test.ts).
 */
import type { LogLine, LogMark } from '../../../deploy/shared/api.ts'
import { Refusal } from '../../../deploy/shared/errors.ts'
import type { Body } from '../body.ts'
import { newestCursor } from '../slot/log.ts'
import type { Slot } from '../slot/slot.ts'
import { followLines, type LogQuery, selectLines } from './logquery.ts'
import type { EndpointPeer } from './peer.ts'

/** Most log lines that may arrive while the stored lines of a followed log are being sent. */
const MAX_EARLY = 10_000
export const NOT_READ = new Refusal(
  'too-large',
  'this stream was ended because it was not read fast enough',
  'read faster, or ask for less',
)

export interface LogRequest extends LogQuery {
  id: number
  /** Null: all slots. */
  slot: string | null
  follow: boolean
}

/** `tell` sends an item of a followed stream. Resolves when the stored lines are sent. Throws Refusal `not-found`. */
export async function sendLog(
  body: Pick<Body, 'all' | 'known' | 'onSlot'>,
  peer: EndpointPeer,
  request: LogRequest,
  tell: (item: LogLine | LogMark) => void,
): Promise<void> {
  const { id, slot: name } = request
  const slots = (): Slot[] => (name === null ? body.all : [body.known(name)])
  slots()
  if (!request.follow) {
    await peer.answerLong(id, () => selectLines(slots(), request))
    return peer.send({ op: 'done', id })
  }
  const later = (listener: (slot: Slot) => void) =>
    body.onSlot((slot) => {
      if (name === null || name === slot.name) listener(slot)
    })
  let early: LogLine[] | null = []
  const newLine = (line: LogLine): void => {
    // New lines are held back until the stored ones are sent.
    if (early === null) tell(line)
    else if (early.push(line) > MAX_EARLY) peer.cancel(id)
  }
  let end = (): void => {}
  peer.follow(id, () => end())
  // Both in one turn of the event loop, when the lines are read: before, a new line could be stored and followed.
  const read = (): (LogLine | LogMark)[] => {
    if (!peer.follows(id)) return []
    end = followLines(slots(), later, request, newLine)
    return [...selectLines(slots(), request), { mark: newestCursor() }]
  }
  try {
    await peer.answerLong(id, read)
  } catch (error) {
    peer.cancel(id)
    throw error
  }
  const meanwhile = early
  early = null
  for (const line of meanwhile) tell(line)
  if (!peer.follows(id)) peer.fail(id, NOT_READ)
}
