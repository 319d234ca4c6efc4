/** The receipts of a slot: one shape for upgrades, one for everything else. */
import type { Outcome } from '../../../deploy/shared/api.ts'
import type { ReceiptFields } from '../../store/receipts.ts'
import type { Cause } from './cause.ts'
import type { Runnable } from './running.ts'
import { oneLine } from './said.ts'
import type { Upgrade } from './upgrade.ts'

/** A receipt without `confined`, which is the same for all programs and is added by body.ts. */
export type ReceiptEntry = Omit<ReceiptFields, 'confined'>

/** Characters of a reason in a receipt; the slot's log holds all of it. */
const MAX_REASON = 500

const why = (cause: Cause | null) =>
  cause === null
    ? {}
    : {
        code: cause.code,
        reason: oneLine(cause.message, MAX_REASON),
        ...(cause.ranMs === undefined ? {} : { ranMs: Math.round(cause.ranMs) }),
        ...(cause.said === undefined ? {} : { said: oneLine(cause.said) }),
      }

export function upgradeEntry(slot: string, upgrade: Upgrade, outcome: Outcome, fence: number): ReceiptEntry {
  const { to, from, cause, pusher, stateAgeMs, gapMs, fenceMs, stateBytes } = upgrade
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
    ...(to.check === undefined ? {} : { checkMs: to.check.ms }),
    ...(fenceMs === null ? {} : { fenceMs }),
    stateBytes,
    ...(stateAgeMs === undefined ? {} : { stateAgeMs }),
    edges: upgrade.edges,
    fence,
  }
}

export function plainEntry(slot: string, outcome: Outcome, fence: number, about: Partial<ReceiptFields>): ReceiptEntry {
  const nothing = { from: null, to: null, phases: [], wallMs: 0, gapMs: null, stateBytes: 0, edges: null }
  return { slot, outcome, ...nothing, fence, ...about }
}

/** A start, restart, stop, crash or wait of a program. */
export function lifeEntry(
  slot: string,
  outcome: Outcome,
  fence: number,
  { runs, cause, failures = 0 }: { runs: Runnable | null; cause: Cause | null; failures?: number },
) {
  const about = runs === null ? {} : { program: runs.program, version: runs.version, to: runs.digest }
  return plainEntry(slot, outcome, fence, { ...why(cause), ...(failures === 0 ? {} : { failures }), ...about })
}

/** Of a start from disk: what the check of the stored files took, and the release that was damaged (HANDOVER 9.13). */
export function checkOf(runs: Runnable | null): Partial<ReceiptFields> {
  const { check, instead } = runs ?? {}
  return {
    ...(check === undefined ? {} : { checkMs: check.ms }),
    ...(instead === undefined
      ? {}
      : { from: instead.digest, code: instead.code, reason: oneLine(instead.reason, MAX_REASON) }),
  }
}
