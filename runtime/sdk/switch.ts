/**
 * The two halves of a handover, with the messages to the body about each. The live program and its rehearsals run this same
 * code (HANDOVER 4.2).
 */
import { pause } from '../../drivers/clock.ts'
import type { Mailbox } from './hooks.ts'
import type { HandedOver, Stage } from './stage.ts'
import { ProgramFailure } from './state.ts'
import { type Outbox, StateError, type StateReader } from './statearea.ts'
import { clockNs } from './ticker.ts'
import type { FailCode, FromProgram, Snapshot, ToProgram } from './wire.ts'

export type YieldMessage = Extract<ToProgram, { t: 'yield' }>
/** Longer than a takeover. */
const WAIT_MS = 0.5

type Send = (message: FromProgram) => void

export const failCode = (error: unknown, otherwise: FailCode): FailCode =>
  error instanceof ProgramFailure ? error.code : error instanceof StateError ? 'bad-state' : otherwise

/** True when parked; false when the handover failed and this program goes on. */
export function handOver(stage: Stage, outbox: Outbox, to: Mailbox, wanted: YieldMessage, send: Send): boolean {
  const { swap, fence, stateVersion } = wanted
  let given: HandedOver
  try {
    given =
      wanted.to === 'body' ? stage.giveBack(outbox, stateVersion) : stage.give(outbox, to, swap, fence, stateVersion)
  } catch (error) {
    // the record was not sent, so this program is still the only writer (HANDOVER 6.8)
    stage.lease.live = true
    send({ t: 'failed', swap, code: failCode(error, 'takeover-failed'), message: stage.textOf(error) })
    return false
  }
  // from here on the successor may be live, so this lease must stay ended whatever happens
  // a pipe wakes its reader on the writer's core: sleep, so that the successor gets the core before the body is told
  if (wanted.to === 'successor' && to.position === null) pause(WAIT_MS)
  send({ t: 'yielded', swap, ...given })
  return true
}

/** Returns once this program runs, or has sent the body why not. Throws what the program throws once live. */
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
    const startedNs = clockNs()
    const { record, receivedNs, liveNs, changed } = taken
    const { revokedNs, sentNs, snapshot } = record
    const times = { revokedNs, sentNs, receivedNs, liveNs, startedNs }
    send({ t: 'took', swap, fence, ...times, bytes: snapshot.length, changed })
  } catch (error) {
    if (stage.lease.live) throw error
    send({ t: 'failed', swap, code: failCode(error, 'takeover-failed'), message: stage.textOf(error) })
  }
}
