/**
 * Sends a stream of the body as an NDJSON answer. Invariant: a refusal before the first element is a 4xx with a reason, and a
 * reader that does not read is cut off at a bounded number of buffered bytes (test/runtime/endpoint/app.test.ts).
 */
import type { Response } from 'express'
import type { PushEvent } from '../../deploy/shared/api.ts'
import { Refusal } from '../../deploy/shared/errors.ts'
import type { BodyLink, BodyRequest } from './bodylink.ts'

/** Most bytes that are buffered for a reader that follows a stream. */
const MAX_BEHIND = 4 * 1024 * 1024
/** Most bytes that are buffered of an answer that has an end: all of it may wait for a slow network. */
const MAX_WHOLE = 32 * 1024 * 1024

/**
 * Resolves when the answer is complete. With `cancel` the body ends the stream when the reader disconnects; without it, the
 * request goes on (a laptop that closes its lid does not undo a swap). `settle` runs when the body's stream has ended, before
 * the reader gets the result (HANDOVER 8.6). `first` is sent before the body's first element.
 */
export async function streamItems(
  link: BodyLink,
  message: BodyRequest,
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
    // A result counts, even if the body ended right after it.
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

/** A refusal after the first element is sent as the last element. */
function lateResult(error: unknown): PushEvent {
  const { code, message, hint } = error instanceof Refusal ? error : new Refusal('internal', 'the endpoint failed')
  return { event: 'result', outcome: 'refused', code, message, ...(hint !== undefined && { hint }) }
}
