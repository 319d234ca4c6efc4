/**
 * A stream of the body as an NDJSON answer. Invariant: a refusal before the first element is a 4xx with a reason; a reader
 * that does not read is cut off at a bounded number of buffered bytes.
 */
import type { Response } from 'express'
import type { PushEvent } from '../../deploy/shared/api.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import type { BodyLink, Request } from './bodylink.ts'

/** lines of a follower that does not keep up */
const MAX_BEHIND = 4 * 1024 * 1024
/** an answer that has an end may wait in whole for a slow network */
const MAX_WHOLE = 32 * 1024 * 1024

/**
 * Resolves when the answer is complete. With `cancel` the body is told when the reader leaves; without, what was asked for
 * goes on (a swap is not undone by a laptop that closes its lid). `settle` runs when the body has ended, before the reader
 * sees the result (HANDOVER 8.6). `first` goes before the body's first element.
 */
export async function streamed(
  link: BodyLink,
  message: Request,
  response: Response,
  leave?: 'cancel',
  settle: () => Promise<void> = async () => {},
  first: readonly PushEvent[] = [],
): Promise<void> {
  const gone = new AbortController()
  if (leave === 'cancel') response.once('close', () => gone.abort())
  const max = 'follow' in message && message.follow ? MAX_BEHIND : MAX_WHOLE
  let result: unknown
  const before = [...first]
  const item = (value: unknown) => {
    for (const event of before.splice(0)) writeItem(response, event, max)
    if (isResult(value)) result = value
    else writeItem(response, value, max)
  }
  try {
    await link.stream(message, item, gone.signal).finally(settle)
  } catch (error) {
    // a result that was said holds, even if the body ended right after it
    if (!response.headersSent && result === undefined) throw error
    if (leave !== 'cancel') result ??= lateResult(error)
    else response.destroy()
  }
  if (result !== undefined) writeItem(response, result, max)
  open(response)
  response.end()
}

function writeItem(response: Response, value: unknown, max: number): void {
  if (response.destroyed || response.writableEnded) return
  open(response)
  response.write(`${JSON.stringify(value)}\n`)
  if (response.writableLength > max) response.destroy()
}

function open(response: Response): void {
  if (!response.headersSent) response.status(200).type('application/x-ndjson')
}

function isResult(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'event' in value && value.event === 'result'
}

/** A refusal that came after elements: told as the last one. */
function lateResult(error: unknown): PushEvent {
  const { code, message, hint } = error instanceof Refusal ? error : new Refusal('internal', 'the endpoint failed')
  return { event: 'result', outcome: 'refused', code, message, ...(hint !== undefined && { hint }) }
}
