/**
 * Invariant: a rehearsal is the takeover itself, run on a scratch file: snapshot, record, read, load, one tick.
 *
 * It compiles the code that will run in the gap, and finds programs that cannot take over while the old one still runs
 * (HANDOVER 4.2, 4.4).
 */
import { readSync, writeSync } from 'node:fs'
import type { Lease } from '../../drivers/handle.ts'
import { rehearsalHandles, ZeroBroker } from './dummies.ts'
import { Instance } from './instance.ts'
import type { Needs, Params, RobotSpec } from './spec.ts'
import { decodeState, messageOf, migrateUp } from './state.ts'
import { type Outbox, StateReader } from './statearea.ts'
import { monotonicNs } from './ticker.ts'
import { decodeRecord, encodeRecord, FD, type Init, type Meta, RECORD_SIZE } from './wire.ts'

/** A rehearsal of a slow program is cut here, after the round that passed it. */
const BUDGET_NS = 300e6
const RECORD_AT = 4096

type AnySpec = RobotSpec<Needs, unknown, Params>

/**
 * `real` is the predecessor's state, migrated, when there is one; without it the initial state is used.
 * Throws what the program throws, except after it relied on a dummy's answer: then the note says so.
 */
export function rehearse(
  spec: AnySpec,
  init: Init,
  outbox: Outbox,
  params: Record<string, unknown>,
  real: { state: unknown; meta: Meta } | null,
): { rounds: number; note: string | null } {
  const began = monotonicNs()
  const reader = new StateReader(FD.outbox)
  const record = Buffer.alloc(RECORD_SIZE)
  // an input reads its level at position 0
  writeSync(FD.scratch, '0\n', 0)
  let rounds = 0
  const wanted = real === null ? init.rehearsals : Math.min(5, init.rehearsals)
  for (; rounds < wanted && monotonicNs() - began < BUDGET_NS; rounds++) {
    const broker = new ZeroBroker()
    try {
      const from = real === null || rounds > 0 ? (spec.state?.initial() ?? {}) : real.state
      const old = perform(spec, init, params, broker, from, real?.meta ?? null)
      const { bytes, meta } = old.encode({})
      const snapshot = outbox.write(bytes, meta)
      const sentNs = monotonicNs()
      encodeRecord({ swap: '00'.repeat(16), fence: 0, snapshot, revokedNs: sentNs, sentNs }, record)
      writeSync(FD.scratch, record, 0, RECORD_SIZE, RECORD_AT)
      readSync(FD.scratch, record, 0, RECORD_SIZE, RECORD_AT)
      const heard = decodeRecord(record)
      if (heard === null) throw new Error('the rehearsal record did not come back')
      const { meta: readMeta, state } = reader.read(heard.snapshot)
      const loaded = migrateUp(spec.state, decodeState(Buffer.from(state), readMeta.encoding), readMeta.stateVersion)
      perform(spec, init, params, broker, loaded, readMeta)
    } catch (error) {
      if (!broker.asked) throw error
      return { rounds, note: `rehearsal stopped at a dummy answer: ${messageOf(error)}` }
    }
  }
  return { rounds, note: null }
}

/** One instance on dummies: run, align, one tick of each. */
function perform(
  spec: AnySpec,
  init: Init,
  params: Record<string, unknown>,
  broker: ZeroBroker,
  state: unknown,
  meta: Meta | null,
): Instance {
  const lease: Lease = { live: true, fence: 0 }
  const instance = new Instance(
    spec,
    {
      init,
      handles: rehearsalHandles(init.grants, lease, broker),
      lease,
      params: { ...params },
      log: () => {},
      between: () => false,
      released: () => {},
    },
    state,
  )
  const now = monotonicNs()
  instance.begin(meta !== null)
  instance.ticker.align(meta?.schedule ?? [], now)
  instance.ticker.once(now)
  return instance
}
