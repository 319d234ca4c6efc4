/**
 * Rehearses the takeover between two stages on a scratch file: give, take, one tick of each (HANDOVER 4.2, 4.4).
 *
 * A rehearsal compiles the code that will run in the gap, and finds programs that cannot take over while the old program
 * still runs.
 */
import { writeSync } from 'node:fs'
import { pause } from '../../drivers/clock.ts'
import type { BrokerPort } from '../../drivers/program/broker/index.ts'
import type { Lease } from '../../drivers/program/handle.ts'
import { rehearsalHandles, ScratchSystem, ZeroBroker } from './dummies.ts'
import type { AnySpec, Mailbox, StageHooks } from './hooks.ts'
import type { Host } from './host.ts'
import { Stage } from './stage.ts'
import { ProgramFailure } from './state.ts'
import { type Outbox, StateReader } from './statearea.ts'
import { handOver, takeOver, type YieldMessage } from './switch.ts'
import { clockNs } from './ticker.ts'
import type { FromProgram, Meta, Snapshot } from './wire.ts'

/** No further round begins after this time. */
const BUDGET_NS = 300e6
const COMPILERS_MS = 0.25
const MAILBOX_AT = 4096
const SWAP = '00'.repeat(16)
const WANTED: YieldMessage = { t: 'yield', swap: SWAP, fence: 0, to: 'successor', stateVersion: 0 }

/** What a rehearsal uses of the host. */
type RehearsalHost = Pick<Host, 'init' | 'system' | 'places' | 'gate' | 'channels' | 'enter'> & {
  textOf(error: unknown): string
}

const nothing = (): void => {}

/** Takes the messages of a rehearsal: none is sent to the body, and `failed` ends the rehearsal by an exception. */
const throwIfFailed = (message: FromProgram): void => {
  if (message.t === 'failed') throw new ProgramFailure(message.code, message.message)
}

/**
 * `real` is the predecessor's migrated state, or null for the initial state. Throws what the program throws, except after
 * the program relied on a dummy's answer: then the note says so.
 */
export function rehearse(
  spec: AnySpec,
  host: RehearsalHost,
  outbox: Outbox,
  client: BrokerPort | null,
  real: { state: unknown; meta: Meta } | null,
): { rounds: number; note: string | null } {
  const { init, places } = host
  const began = clockNs()
  const reader = new StateReader(places.outbox)
  const mailbox: Mailbox = { fd: places.scratch, position: MAILBOX_AT }
  // a dummy input reads its level at position 0
  writeSync(places.scratch, '0\n', 0)
  const wanted = real === null ? init.rehearsals : Math.min(5, init.rehearsals)
  const { gate } = host
  // a byte state goes from round to round, as from program to program: a fresh one each time would be much garbage
  let state = real === null ? gate.rehearse(() => spec.state?.initial() ?? {}) : real.state
  let rounds = 0
  for (; rounds < wanted && clockNs() - began < BUDGET_NS; rounds++) {
    const broker = new ZeroBroker(client)
    const round = (): void => {
      const old = dummyStage(spec, host, broker)
      const meta = rounds === 0 ? (real?.meta ?? null) : null
      if (rounds === 0) host.enter?.('run')
      old.begin(state, meta, 0, meta !== null)
      if (rounds === 0) host.enter?.('every')
      old.instance?.ticker.once(clockNs())
      handOver(old, outbox, mailbox, WANTED, throwIfFailed)
      const fresh = dummyStage(spec, host, broker)
      // V8's compiler threads run beside this one: give them time now, so that they have finished before the gap
      pause(COMPILERS_MS)
      takeOver(fresh, mailbox, reader, WANTED, nothing, throwIfFailed)
      fresh.instance?.ticker.once(clockNs())
      state = state instanceof Uint8Array ? fresh.instance?.state : (spec.state?.initial() ?? {})
      if (rounds === 0) host.enter?.('rehearsed')
      // late callbacks of the round must find their handles revoked (HANDOVER 13.5)
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

/** A state larger than this is read ahead, but not copied for a trial start. */
const PLAY_BYTES = 64 * 1024

/**
 * Reads the snapshot ahead and starts once on dummies, so that code and data are in the caches when the record comes
 * (HANDOVER 6.9). An error is ignored here: the takeover meets it again and reports it.
 */
export function warmUp(
  stage: Stage,
  host: RehearsalHost,
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
    // the takeover reports it
  }
}

function dummyStage(spec: AnySpec, { init, system, channels, textOf }: RehearsalHost, broker: ZeroBroker): Stage {
  const scratch = system === null ? null : new ScratchSystem(system)
  const lease: Lease = { live: false, fence: 0 }
  const hooks: StageHooks = {
    why: () => 'rehearsal',
    log: nothing,
    afterTick: () => true,
    released: nothing,
    failed: nothing,
    textOf,
    channels: channels?.rehearsal?.(),
  }
  return new Stage(spec, init, rehearsalHandles(init.grants, lease, broker, scratch), lease, hooks)
}
