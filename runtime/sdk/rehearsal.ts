/**
 * Invariant: a rehearsal is the takeover itself between two stages on a scratch file: give, take, one tick of each.
 *
 * It compiles the code that will run in the gap, and finds programs that cannot take over while the old one still runs
 * (HANDOVER 4.2, 4.4).
 */
import { writeSync } from 'node:fs'
import type { BrokerPort } from '../../drivers/program/broker/index.ts'
import type { Lease } from '../../drivers/program/handle.ts'
import { rehearsalHandles, ScratchSystem, ZeroBroker } from './dummies.ts'
import type { AnySpec, Mailbox, StageHooks } from './hooks.ts'
import type { Host } from './host.ts'
import { Stage } from './stage.ts'
import { ProgramFailure } from './state.ts'
import { type Outbox, StateReader } from './statearea.ts'
import { handOver, takeOver, type Yield } from './switch.ts'
import { monotonicNs, rest } from './ticker.ts'
import type { FromProgram, Meta, Snapshot } from './wire.ts'

/** A rehearsal of a slow program is cut here, after the round that passed it. */
const BUDGET_NS = 300e6
const COMPILERS_MS = 0.25
const MAILBOX_AT = 4096
const SWAP = '00'.repeat(16)
const WANTED: Yield = { t: 'yield', swap: SWAP, fence: 0, to: 'successor', stateVersion: 0 }

/** What a rehearsal sees of the loader. */
type Backstage = Pick<Host, 'init' | 'system' | 'places' | 'gate' | 'enter'> & { textOf(error: unknown): string }

const nothing = (): void => {}

/** A rehearsal tells nobody; a failure is thrown, to end it. */
const told = (message: FromProgram): void => {
  if (message.t === 'failed') throw new ProgramFailure(message.code, message.message)
}

/**
 * `real` is the predecessor's state, migrated, when there is one; without it the initial state is used.
 * Throws what the program throws, except after it relied on a dummy's answer: then the note says so.
 */
export function rehearse(
  spec: AnySpec,
  host: Backstage,
  outbox: Outbox,
  client: BrokerPort | null,
  real: { state: unknown; meta: Meta } | null,
): { rounds: number; note: string | null } {
  const { init, places } = host
  const began = monotonicNs()
  const reader = new StateReader(places.outbox)
  const mailbox: Mailbox = { fd: places.scratch, position: MAILBOX_AT }
  // an input reads its level at position 0
  writeSync(places.scratch, '0\n', 0)
  const wanted = real === null ? init.rehearsals : Math.min(5, init.rehearsals)
  const { gate } = host
  // bytes go from round to round, as they would from program to program: fresh ones each time would be a lot of garbage
  let state = real === null ? gate.rehearse(() => spec.state?.initial() ?? {}) : real.state
  let rounds = 0
  for (; rounds < wanted && monotonicNs() - began < BUDGET_NS; rounds++) {
    const broker = new ZeroBroker(client)
    const round = (): void => {
      const old = dummyStage(spec, host, broker)
      const meta = rounds === 0 ? (real?.meta ?? null) : null
      if (rounds === 0) host.enter?.('run')
      old.begin(state, meta, 0, meta !== null)
      if (rounds === 0) host.enter?.('every')
      old.instance?.ticker.once(monotonicNs())
      handOver(old, outbox, mailbox, WANTED, told)
      const fresh = dummyStage(spec, host, broker)
      // compilers work beside: what they have done by the end of the rehearsal, they do not do in the gap
      rest(COMPILERS_MS)
      takeOver(fresh, mailbox, reader, WANTED, nothing, told)
      fresh.instance?.ticker.once(monotonicNs())
      state = state instanceof Uint8Array ? fresh.instance?.state : (spec.state?.initial() ?? {})
      if (rounds === 0) host.enter?.('rehearsed')
      // HANDOVER 13.5: what the round left behind cannot use its handles
      fresh.lease.live = false
    }
    let relied = (): boolean => broker.asked
    try {
      gate.rehearse((about) => {
        relied = () => broker.asked || about.relied
        round()
      })
    } catch (error) {
      if (!relied()) throw error
      return { rounds, note: `rehearsal stopped at a dummy answer: ${host.textOf(error)}` }
    } finally {
      broker.end()
    }
  }
  return { rounds, note: null }
}

/** A state larger than this is read ahead, but not copied to play with. */
const PLAY_BYTES = 64 * 1024

/**
 * HANDOVER 6.9: reads what will be read at the switch, and plays its start once on dummies, so that code and data are in
 * the caches when the record comes. Whatever fails here will be told by the takeover itself.
 */
export function warmUp(
  stage: Stage,
  host: Backstage,
  client: BrokerPort | null,
  reader: StateReader,
  snapshot: Snapshot,
): void {
  try {
    const length = stage.own === undefined ? reader.read(snapshot).state.length : (stage.own?.state.length ?? 0)
    if (length > PLAY_BYTES) return
    const broker = new ZeroBroker(client)
    host.gate.rehearse(() => {
      const { state, meta } = stage.inherit(reader, snapshot, true)
      const dummies = dummyStage(stage.spec, host, broker)
      dummies.begin(state, meta, 0, true)
      dummies.lease.live = false
    })
    broker.end()
  } catch {
    // not now
  }
}

function dummyStage(spec: AnySpec, { init, system, textOf }: Backstage, broker: ZeroBroker): Stage {
  const scratch = system === null ? null : new ScratchSystem(system)
  const lease: Lease = { live: false, fence: 0 }
  const outside: StageHooks = {
    why: () => 'rehearsal',
    log: nothing,
    afterTick: () => true,
    released: nothing,
    failed: nothing,
    textOf,
  }
  return new Stage(spec, init, rehearsalHandles(init.grants, lease, broker, scratch), lease, outside)
}
