/**
 * A request whose session, role and slot were checked, and the answer to a refused one. Invariant: an error that is no
 * {@link Refusal} is logged, and its text is not in the answer (test/runtime/endpoint/app.test.ts).
 */
import type { Request, Response } from 'express'
import type { ErrorBody, SignedOrder } from '../../deploy/shared/api.ts'
import type { Peer } from '../../deploy/shared/channel/index.ts'
import { Refusal, type RefusalCode } from '../../deploy/shared/errors.ts'

export interface Call {
  request: Request
  response: Response
  peer: Peer
  /** The slot of the path; `''` on routes without one. */
  slot: string
}

export class LengthRequired extends Refusal {
  constructor() {
    super('usage', 'expected a Content-Length')
  }
}

/** Checks only that both are strings: the body reads the order (HANDOVER 8.10). */
export function parseOrder(text: string): SignedOrder {
  try {
    const { order, sig } = JSON.parse(text) as Record<string, unknown>
    if (typeof order === 'string' && typeof sig === 'string') return { order, sig }
  } catch {
    // below
  }
  throw new Refusal('usage', 'order: expected {"order": TEXT, "sig": TEXT}')
}

const STATUS: Partial<Record<RefusalCode, number>> = {
  usage: 400,
  role: 403,
  'unknown-operator': 403,
  'not-found': 404,
  'in-progress': 409,
  'already-installed': 409,
  'not-running': 409,
  'nothing-to-roll-back': 409,
  'stale-order': 409,
  'too-large': 413,
  internal: 500,
  'body-away': 503,
}

export function answerRefusal(response: Response, error: unknown): void {
  const refusal = error instanceof Refusal ? error : new Refusal('internal', 'the endpoint failed')
  const { code, message, hint } = refusal
  const body: ErrorBody = { error: { code, message, ...(hint !== undefined && { hint }) } }
  response.status(refusal instanceof LengthRequired ? 411 : (STATUS[code] ?? 422)).json(body)
}
