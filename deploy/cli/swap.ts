/** What is shown of a swap while it happens and when it has ended; shared by push, run, rollback and stop. */
import type { Phase, PushEvent } from '../api.ts'
import { Refusal } from '../errors.ts'
import type { App } from './app.ts'
import { exitForOutcome } from './exit.ts'
import { printable } from './loglines.ts'

export type Result = Extract<PushEvent, { event: 'result' }>

/** Follows to the result, or to the first phase for which `enough` is true (then undefined). */
export async function followSwap(
  app: App,
  events: AsyncIterable<PushEvent>,
  seen: (phase: Phase) => void = () => {},
  enough: (phase: Phase) => boolean = () => false,
): Promise<Result | undefined> {
  for await (const event of events) {
    app.term.event(event)
    if (event.event === 'result') return event
    if (event.event === 'held') {
      app.term.progress(`waiting: ${printable(event.reason)}`)
      continue
    }
    seen(event.phase)
    app.term.progress(`${event.phase} …`)
    if (enough(event.phase)) return undefined
  }
  throw new Refusal('unreachable', 'the connection ended before the result', 'medulla status says what is running')
}

/** Timeline, then one sentence, then the exit code. */
export function showResult(app: App, result: Result): number {
  const { term } = app
  const { receipt, outcome } = result
  if (receipt !== undefined && receipt.phases.length > 0) term.timeline(receipt.phases, receipt.gapMs)
  const exit = exitForOutcome(outcome, result.code)
  if (exit === 0) {
    term.line(
      `${term.paint('green', result.code === 'already-installed' ? 'already running' : outcome)}: ${result.message}`,
    )
    return exit
  }
  const hint =
    result.hint ?? (exit === 4 ? 'medulla logs shows what it said, medulla receipts what was done' : undefined)
  term.failure(new Refusal(result.code ?? 'internal', `${outcome}: ${result.message}`, hint), true)
  return exit
}
