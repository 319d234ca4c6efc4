/** Follows a swap, and prints its progress and result; shared by push, run, rollback, stop and start. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Phase, PhaseTime, PushEvent } from '../../shared/api.ts'
import { Refusal } from '../../shared/errors.ts'
import { timeScale } from '../../shared/timescale.ts'
import type { App } from './app.ts'
import { exitForOutcome } from './exit.ts'
import { printable } from './loglines.ts'

export type Result = Extract<PushEvent, { event: 'result' }> & {
  /** Times of the upload, reported by the robot's endpoint; receipts do not have them (HANDOVER 1.4). */
  upload?: PhaseTime[]
}

/** How long a command waits for a program that is being restarted, and how often it tries. */
const RESTART_MS = 10_000
const RETRY_MS = 200

/** Follows the events to the result. Returns undefined at the first phase for which `enough` is true. */
export async function followSwap(
  app: App,
  events: AsyncIterable<PushEvent>,
  seen: (phase: Phase) => void = () => {},
  enough: (phase: Phase) => boolean = () => false,
): Promise<Result | undefined> {
  const began = performance.now()
  const upload: PhaseTime[] = []
  for await (const event of events) {
    app.term.event(event)
    if (event.event === 'result') return { ...event, ...(upload.length > 0 && { upload }) }
    if (event.event === 'held') {
      app.term.progress(`waiting; the program says: ${JSON.stringify(printable(event.reason))}`)
      continue
    }
    upload.push(...uploadPhases(event, performance.now() - began))
    seen(event.phase)
    app.term.progress(`${event.phase} …`)
    if (enough(event.phase)) return undefined
  }
  throw new Refusal('unreachable', 'the connection ended before the result', 'medulla status shows what is running')
}

/** Repeats `swap` while the robot refuses it because the slot's program is being restarted after a crash. */
export async function pastRestart(
  app: App,
  slot: string,
  swap: () => Promise<Result | undefined>,
): Promise<Result | undefined> {
  const until = performance.now() + RESTART_MS * timeScale()
  for (;;) {
    const busy = await swap().then(
      (result) => (result?.code === 'in-progress' ? result : { done: result }),
      (error: unknown) => {
        if (error instanceof Refusal && error.code === 'in-progress') return error
        throw error
      },
    )
    if ('done' in busy) return busy.done
    const passing = busy.message.includes('(restarting)')
    if (!passing || performance.now() > until) {
      if (busy instanceof Refusal) throw busy
      return busy
    }
    app.term.progress(`waiting: the program of slot ${slot} is being restarted`)
    await sleep(RETRY_MS)
  }
}

/**
 * A phase of the upload as the endpoint reports it. The endpoint is not trusted: times are cut to what the push has taken
 * here.
 */
export function uploadPhases(event: Extract<PushEvent, { event: 'phase' }>, elapsedMs: number): PhaseTime[] {
  const { phase, by, startMs, ms = 0 } = event
  const within = (value: number) => Math.min(Math.max(0, Number(value) || 0), elapsedMs)
  return by === 'endpoint' ? [{ phase, startMs: within(startMs), ms: within(ms) }] : []
}

/** Prints the timeline and one sentence; returns the exit code. */
export function showResult(app: App, result: Result): number {
  const { term } = app
  const { receipt, outcome, upload = [] } = result
  if (receipt !== undefined && receipt.phases.length > 0) {
    const forced = outcome === 'committed' && receipt.from !== null
    const none = forced ? 'not known: the previous program was ended first' : undefined
    term.timeline([...upload, ...receipt.phases], receipt.gapMs, none)
  }
  const exit = exitForOutcome(outcome, result.code)
  if (exit === 0) {
    const how = result.code === 'already-installed' ? 'already running' : outcome
    term.line(`${term.paint('green', how)}: ${term.aimed(result.message)}`)
    if (result.hint?.startsWith('medulla ')) term.next(result.hint)
    return exit
  }
  const hint =
    result.hint ?? (exit === 4 ? 'medulla logs shows what the program said, medulla receipts what was done' : undefined)
  term.failure(new Refusal(result.code ?? 'internal', `${outcome}: ${result.message}`, hint), true)
  return exit
}
