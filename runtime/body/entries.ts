/** What a slot writes into the receipt log; one shape for upgrades, one for everything else. */
import type { Outcome } from '../../deploy/api.ts'
import type { ReceiptFields } from '../store/receipts.ts'
import type { Cause, Runnable, Upgrade } from './upgrade.ts'

/** A receipt holds at most this much of a reason; the slot's log holds all of it. */
const MAX_REASON = 500

const why = (cause: Cause | null) =>
  cause === null ? {} : { code: cause.code, reason: cause.message.slice(0, MAX_REASON) }

export function upgradeEntry(slot: string, upgrade: Upgrade, outcome: Outcome, fence: number): ReceiptFields {
  const { to, from, cause, pusher, stateAgeMs, gapMs, stateBytes } = upgrade
  const { phases, wallMs } = upgrade.timeline.end()
  return {
    slot,
    outcome,
    ...why(cause),
    program: to.program,
    version: to.version,
    from: from?.digest ?? null,
    to: to.digest,
    signer: to.signer,
    ...(pusher === undefined ? {} : { pusher }),
    phases,
    wallMs,
    gapMs,
    stateBytes,
    ...(stateAgeMs === undefined ? {} : { stateAgeMs }),
    edges: upgrade.edges,
    confined: false,
    fence,
  }
}

export function plainEntry(
  slot: string,
  outcome: Outcome,
  fence: number,
  about: Partial<ReceiptFields>,
): ReceiptFields {
  const nothing = { from: null, to: null, phases: [], wallMs: 0, gapMs: null, stateBytes: 0, edges: null }
  return { slot, outcome, ...nothing, confined: false, fence, ...about }
}

/** Start, stop and crash of a program. */
export function lifeEntry(slot: string, outcome: Outcome, fence: number, runs: Runnable | null, cause: Cause | null) {
  const about = runs === null ? {} : { program: runs.program, version: runs.version, to: runs.digest }
  return plainEntry(slot, outcome, fence, { ...why(cause), ...about })
}
