/** The result of a push. */
import type { Outcome, Phase, PushEvent, Receipt } from '../../deploy/shared/api.ts'
import { Refusal } from '../../deploy/shared/errors.ts'

export interface Pushed {
  phases: Phase[]
  outcome: Outcome
  code: string | undefined
  message: string
  receipt: Receipt | undefined
}

/** The result of a push, whether the robot answered with an error or in the event stream. */
export async function ended(events: AsyncIterable<PushEvent>): Promise<Pushed> {
  const phases: Phase[] = []
  try {
    for await (const event of events) {
      if (event.event === 'phase') phases.push(event.phase)
      else if (event.event === 'result') return { phases, ...event, code: event.code, receipt: event.receipt }
    }
  } catch (error) {
    if (!(error instanceof Refusal)) throw error
    return { phases, outcome: 'refused', code: error.code, message: error.message, receipt: undefined }
  }
  throw new Error('the push ended without a result')
}
