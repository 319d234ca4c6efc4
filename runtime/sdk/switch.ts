/**
 * Invariant: what the live program and a rehearsal do at the switch is this code and no other (HANDOVER 4.2).
 *
 * The two halves of a handover, with what is told to the body about each.
 */
import type { Mailbox } from './hooks.ts'
import type { Given, Stage } from './stage.ts'
import { ProgramFailure } from './state.ts'
import { type Outbox, StateError, type StateReader } from './statearea.ts'
import { monotonicNs, rest } from './ticker.ts'
import type { FailCode, FromProgram, Snapshot, ToProgram } from './wire.ts'

export type Yield = Extract<ToProgram, { t: 'yield' }>
/** Longer than a takeover. */
const REST_MS = 0.5

type Send = (message: FromProgram) => void

export const failCode = (error: unknown, otherwise: FailCode): FailCode =>
  error instanceof ProgramFailure ? error.code : error instanceof StateError ? 'bad-state' : otherwise

/** True when parked; false when the handover failed and this program goes on. */
export function handOver(stage: Stage, outbox: Outbox, to: Mailbox, wanted: Yield, send: Send): boolean {
  const { swap, fence, stateVersion } = wanted
  let given: Given
  try {
    given =
      wanted.to === 'body' ? stage.giveBack(outbox, stateVersion) : stage.give(outbox, to, swap, fence, stateVersion)
  } catch (error) {
    // HANDOVER 6.8: nobody has the record, so this program is still the only writer
    stage.lease.live = true
    send({ t: 'failed', swap, code: failCode(error, 'takeover-failed'), message: stage.textOf(error) })
    return false
  }
  // from here on the successor may be live: whatever happens now, this lease stays ended
  // a pipe wakes its reader on the writer's core: leave that core to it, the body can wait
  if (wanted.to === 'successor' && to.position === null) rest(REST_MS)
  send({ t: 'yielded', swap, ...given })
  return true
}

/** Returns once this program runs, or when it told the body that it does not; throws what the program throws once live. */
export function takeOver(
  stage: Stage,
  from: Mailbox,
  reader: StateReader,
  { swap, fence }: { swap: string; fence: number },
  ahead: (snapshot: Snapshot) => void,
  send: Send,
): void {
  try {
    const taken = stage.take(from, reader, swap, fence, ahead)
    if (taken === null) return send({ t: 'orphan', swap })
    const startedNs = monotonicNs()
    const { record, receivedNs, liveNs, changed } = taken
    const { revokedNs, sentNs, snapshot } = record
    const times = { revokedNs, sentNs, receivedNs, liveNs, startedNs }
    send({ t: 'took', swap, fence, ...times, bytes: snapshot.length, changed })
  } catch (error) {
    if (stage.lease.live) throw error
    send({ t: 'failed', swap, code: failCode(error, 'takeover-failed'), message: stage.textOf(error) })
  }
}
