/**
 * Turns the body's control messages into moves of the live stage (HANDOVER 3, 6, 7). The program never makes its own lease
 * live: that takes a `start`, an `arm` or a `resume` of the body.
 */
import type { BrokerPort } from '../../drivers/program/broker/index.ts'
import type { Lease } from '../../drivers/program/handle.ts'
import { adoptAll, brokerOf } from './grants.ts'
import type { AnySpec } from './hooks.ts'
import type { Host } from './host.ts'
import type { Instance } from './instance.ts'
import { Life } from './life.ts'
import { LogLimit } from './loglimit.ts'
import { setParams } from './params.ts'
import { rehearse, warmUp } from './rehearsal.ts'
import type { Why } from './spec.ts'
import { Stage } from './stage.ts'
import { messageOf, ProgramFailure, unserialisable } from './state.ts'
import { Outbox, StateReader } from './statearea.ts'
import { failCode, handOver, takeOver, type YieldMessage } from './switch.ts'
import { clockNs } from './ticker.ts'
import {
  type FailCode,
  type FromProgram,
  type LogLevel,
  MAX_LOG_TEXT,
  NOT_LIVE,
  type Snapshot,
  type ToProgram,
} from './wire.ts'

/** When the next tick is nearer than this, a yield waits for it. */
const SOON_MS = 20
/** A larger state is not read and copied twice before a takeover. */
const WARM_BYTES = 2 ** 21

/** The body ends a program that sends a longer text (HANDOVER 3.2). */
const cut = (text: string): string => text.slice(0, MAX_LOG_TEXT)

/**
 * Throws the error of a promise that the program returned. It throws outside of the promise, so that the error reaches the
 * same handler as any other exception, which ends the program.
 */
const thrown = (error: unknown): void =>
  process.nextTick(() => {
    throw error
  })

export class Program {
  readonly #spec: AnySpec
  readonly #host: Host & { textOf(error: unknown): string }
  readonly #send: Host['send']
  readonly #broker: BrokerPort | null
  readonly #stage: Stage
  readonly #outbox: Outbox
  readonly #inbox: StateReader
  readonly #predecessor: StateReader
  #yield: YieldMessage | null = null
  #why: Why = 'start'
  #life: Life
  /** Whether onLive and the servers have been ended, for a yield. */
  #lifeEnded: 'no' | 'ending' | 'yes' = 'no'
  /** The instance whose onLive functions `#life` holds. */
  #lifeOwner: Instance | null = null
  /** The swap whose hold was already reported. */
  #heldSwap = ''
  readonly #logLimit = new LogLimit()

  constructor(spec: AnySpec, host: Host) {
    this.#spec = spec
    const textOf = (error: unknown): string => cut(host.explain?.(error).text ?? messageOf(error))
    this.#host = { ...host, textOf }
    this.#send = host.send
    this.#outbox = new Outbox(host.places.outbox)
    this.#inbox = new StateReader(host.places.inbox)
    this.#predecessor = new StateReader(host.places.predecessor)
    const lease: Lease = { live: false, fence: 0 }
    this.#broker = brokerOf(host)
    const handles = adoptAll(host.init.grants, lease, {
      system: host.system,
      broker: this.#broker,
      ...(host.sockets && { serving: host.sockets }),
    })
    this.#stage = new Stage(spec, host.init, handles, lease, {
      why: () => this.#why,
      log: (text, level) => this.#log(text, level),
      failed: thrown,
      afterTick: () => this.#yield !== null && this.#yieldNow(),
      // after the tick that released the hold
      released: () => setImmediate(() => this.#yieldNow()),
      textOf,
      channels: host.channels,
      pace: host.pace,
    })
    this.#life = this.#lifeOf([])
    host.onUncaught((error) => this.#uncaught(error))
    try {
      this.#rehearse()
    } catch (error) {
      this.#fatal(failCode(error, 'died-at-start'), error)
      return
    }
    // no yield is asked for yet: this call only compiles the function, before the first swap
    this.#yieldNow()
    host.listen((message) => this.#hear(message))
    setInterval(() => this.#heartbeat(), host.init.heartbeatMs)
  }

  #rehearse(): void {
    const began = clockNs()
    const initial = this.#host.gate.rehearse(() => this.#spec.state?.initial() ?? {})
    const lost = initial instanceof Uint8Array ? null : unserialisable(initial)
    if (lost !== null) throw new ProgramFailure('bad-state', `the state cannot be handed over: ${lost}`)
    const { rounds, note } = rehearse(this.#spec, this.#host, this.#outbox, this.#broker, null)
    const ready: FromProgram = { t: 'ready', rehearsals: rounds, rehearseMs: (clockNs() - began) / 1e6 }
    this.#send(note === null ? ready : { ...ready, note: cut(note) })
  }

  #hear(message: ToProgram): void {
    switch (message.t) {
      case 'start':
        return this.#start(message)
      case 'copy':
        return this.#copy(message.swap, message.stateVersion)
      case 'preload':
        return this.#preload(message)
      case 'arm':
        this.#send({ t: 'armed', swap: message.swap })
        return this.#takeOver(message.swap, message.fence)
      case 'yield':
        this.#yield = message
        if (this.#isLifeOver()) this.#yieldSoon()
        return
      case 'resume':
        return this.#resume(message)
      case 'checkpoint':
        return this.#checkpoint(message.n)
      case 'edge':
        return this.#stage.edge(message)
      case 'params':
        return setParams(this.#host.init.params, message.values)
      case 'stop':
        return this.#stop()
    }
  }

  #start({ fence, why, snapshot, values, edges }: Extract<ToProgram, { t: 'start' }>): void {
    this.#why = why
    this.#host.gate.enter()
    try {
      // the outputs keep their levels: the handles must know them (HANDOVER 7.8)
      this.#stage.carry(values)
      const { gate } = this.#host
      if (snapshot === null) {
        gate.act(() => this.#stage.begin(this.#spec.state?.initial() ?? {}, null, fence, false, edges))
      } else {
        const { state, meta } = this.#stage.load(this.#inbox, snapshot)
        // after a crash the old deadlines are long past: the schedule starts anew
        gate.act(() => this.#stage.begin(state, { ...meta, schedule: [], channels: {} }, fence, false, edges))
      }
    } catch (error) {
      return this.#fatal(failCode(error, 'died-at-start'), error)
    }
    this.#send({ t: 'started', fence })
    this.#live()
  }

  /** The program drives the hardware now: starts ticks, onLive, deferred effects and servers (HANDOVER 13.6). */
  #live(): void {
    const { instance } = this.#stage
    this.#lifeEnded = 'no'
    if (instance !== this.#lifeOwner) this.#life = this.#lifeOf(instance?.onLive ?? [])
    this.#lifeOwner = instance
    const { gate, sockets } = this.#host
    gate.act(() => {
      instance?.ticker.start()
      this.#life.begin(this.#why)
    })
    gate.open()
    sockets?.accept()
  }

  #lifeOf(onLive: Instance['onLive']): Life {
    const log = (text: string, level: LogLevel) => this.#log(text, level)
    return new Life(onLive, log, thrown)
  }

  #copy(swap: string, version: number): void {
    if (this.#stage.instance === null) return
    try {
      this.#send({ t: 'copied', swap, snapshot: this.#stage.snapshot(this.#outbox, version).snapshot })
    } catch (error) {
      this.#send({ t: 'failed', swap, code: failCode(error, 'bad-state'), message: this.#host.textOf(error) })
    }
  }

  /** Tries the takeover on the real state while the old program still runs, so that a failure costs nothing (HANDOVER 4.4). */
  #preload({ swap, snapshot, own }: Extract<ToProgram, { t: 'preload' }>): void {
    try {
      if (own === undefined || own === null) this.#stage.own = own
      else {
        const { meta, state } = this.#inbox.read(own)
        this.#stage.own = { meta, state: Buffer.from(state) }
      }
      // Once more after the collection, which leaves code and memory cold: the takeover took three times as long without.
      for (let n = 0; n < (snapshot.length > WARM_BYTES ? 1 : 2); n++) {
        const real = this.#host.gate.rehearse(() => this.#stage.inherit(this.#predecessor, snapshot, true))
        rehearse(this.#spec, this.#host, this.#outbox, this.#broker, real)
        if (n === 0) this.#host.collect()
      }
      this.#send({ t: 'preloaded', swap })
    } catch (error) {
      this.#send({ t: 'failed', swap, code: failCode(error, 'takeover-failed'), message: this.#host.textOf(error) })
    }
  }

  #takeOver(swap: string, fence: number): void {
    this.#why = 'swap'
    this.#host.gate.enter()
    try {
      const ahead = (snapshot: Snapshot) => warmUp(this.#stage, this.#host, this.#broker, this.#predecessor, snapshot)
      const { gate, places } = this.#host
      gate.act(() => takeOver(this.#stage, places.handoverIn, this.#predecessor, { swap, fence }, ahead, this.#send))
    } catch (error) {
      return this.#fatal('died-in-trial', error)
    }
    if (this.#stage.lease.live) this.#live()
    else this.#host.gate.close()
  }

  /**
   * Whether the program may yield: onLive and the servers have ended (HANDOVER 13.7, HANDLES 17.5). If not, this call begins
   * to end them, and the yield follows by itself.
   */
  #isLifeOver(): boolean {
    const { instance } = this.#stage
    if (instance === null || instance.holds.size > 0) return true
    if (this.#lifeEnded !== 'no') return this.#hasLifeEnded()
    const { endMs } = this.#host.init
    const wanted = this.#yield
    let isLater = false
    const onEnded = () => {
      if (this.#yield !== wanted) return
      this.#lifeEnded = 'yes'
      if (isLater) this.#yieldSoon()
    }
    this.#lifeEnded = 'ending'
    this.#drain(endMs, this.#life.isOn ? this.#life.end(endMs) : null, onEnded)
    isLater = true
    return this.#hasLifeEnded()
  }

  #hasLifeEnded(): boolean {
    return this.#lifeEnded === 'yes'
  }

  /** Drains the servers and waits for `ends`. Calls `done` synchronously when there is nothing to wait for. */
  #drain(ms: number, ends: Promise<void> | null, done: () => void): void {
    const { sockets, channels } = this.#host
    // the loader's drain also flushes the message channels
    if (sockets !== undefined) return sockets.drain(ms, ends, done)
    const flushed = channels?.flush?.(ms) ?? null
    if (ends === null && flushed === null) done()
    else void Promise.all([ends, flushed]).then(done)
  }

  /**
   * Yields right after the next tick, when the one after that is farthest away; at once, if no tick is near (HANDOVER 6.7).
   * Shortly before that tick a snapshot is given ahead, which leaves little to do in the switch and warms up its code.
   */
  #yieldSoon(): void {
    const { instance } = this.#stage
    if (instance === null || this.#yield === null) return
    if (instance.ticker.nextMs > SOON_MS) {
      this.#yieldNow()
      return
    }
    const { to, swap, fence, stateVersion } = this.#yield
    if (to === 'body') return
    instance.ticker.before(() => {
      try {
        this.#stage.giveAhead(this.#outbox, this.#host.places.handoverOut, swap, fence, stateVersion)
      } catch {
        // the yield meets the same error and reports it
      }
    })
  }

  /** True when parked. */
  #yieldNow(): boolean {
    const wanted = this.#yield
    const { instance } = this.#stage
    if (wanted === null || instance === null) return false
    if (instance.holds.size > 0) {
      const [reason = ''] = instance.holds.values()
      if (this.#heldSwap !== wanted.swap) this.#send({ t: 'held', swap: wanted.swap, reason: cut(reason) })
      this.#heldSwap = wanted.swap
      return false
    }
    if (!this.#isLifeOver()) return false
    this.#yield = null
    if (!handOver(this.#stage, this.#outbox, this.#host.places.handoverOut, wanted, this.#send)) {
      this.#live()
      return false
    }
    instance.ticker.stop()
    this.#host.gate.close()
    return true
  }

  /** The swap was undone: goes on with the parked state, or with the successor's migrated state (HANDOVER 7.4). */
  #resume({ fence, snapshot, values }: Extract<ToProgram, { t: 'resume' }>): void {
    this.#yield = null
    this.#why = 'rollback'
    const { instance, lease } = this.#stage
    this.#host.gate.enter()
    try {
      if (instance === null) throw new ProgramFailure('takeover-failed', 'resumed before it was started')
      instance.ticker.before(null)
      if (lease.live) {
        // the swap was called off before this program yielded, so it never stopped
        lease.fence = fence
      } else if (snapshot === null) {
        // the outputs may have changed meanwhile; this also forgets a servo's move under way (HANDOVER 7.8)
        this.#stage.carry(values)
        lease.fence = fence
        lease.live = true
        instance.ticker.align([], clockNs())
      } else {
        const { state, meta } = this.#stage.load(this.#inbox, snapshot)
        // `run` is called again: without this the timers and connections of its first call would exist twice
        this.#host.gate.renew()
        this.#host.sockets?.forget()
        this.#host.gate.act(() => this.#stage.begin(state, meta, fence, true))
      }
    } catch (error) {
      return this.#fatal(failCode(error, 'takeover-failed'), error)
    }
    this.#send({ t: 'resumed', fence, fromInbox: snapshot !== null })
    this.#live()
  }

  #checkpoint(n: number): void {
    const { instance, lease } = this.#stage
    if (instance === null || !lease.live) return
    try {
      const { snapshot, meta } = this.#stage.snapshot(this.#outbox, null)
      const { stateVersion, encoding } = meta
      this.#send({ t: 'checkpoint', n, snapshot, stateVersion, encoding })
    } catch (error) {
      this.#log(`checkpoint skipped: ${this.#host.textOf(error)}`, 'error')
    }
  }

  #heartbeat(): void {
    const { instance, lease } = this.#stage
    if (instance === null || !lease.live) return
    const reason = instance.unhealthy()
    if (reason !== null) this.#send({ t: 'unhealthy', reason: cut(reason) })
    const { count, overruns, lateUs } = instance.ticker
    instance.ticker.lateUs = 0
    const beat: FromProgram = { t: 'hb', ticks: count, lateUs: Math.round(lateUs), overruns }
    const dropped = this.#logLimit.takeDropped()
    this.#send(dropped === 0 ? beat : { ...beat, dropped })
  }

  /** Ticks end now; onStop and the ends of onLive are awaited (HANDOVER 9.3). */
  #stop(): void {
    const { instance } = this.#stage
    instance?.ticker.stop()
    const { stopMs } = this.#host.init
    const stops = (instance?.stops ?? []).map(async (stop) => stop())
    const exit = () => this.#drain(stopMs / 16, null, () => this.#host.exit(0))
    if (stops.length === 0 && !this.#life.isOn) return exit()
    void Promise.all([this.#life.within(stopMs, 'onStop', stops), this.#life.end(stopMs)]).then(exit)
  }

  #log(text: string, level: LogLevel): void {
    if (this.#logLimit.take()) this.#send({ t: 'log', level, text: cut(text) })
  }

  /** A late callback of a parked program meets revoked handles or a closed gate. Those errors are not a crash. */
  #uncaught(error: unknown): void {
    const { kind, code } = Object(error) as { kind?: unknown; code?: unknown }
    if ((kind === 'revoked' || code === NOT_LIVE) && !this.#stage.lease.live && this.#stage.instance !== null) return
    this.#fatal('died-in-trial', error)
  }

  #fatal(code: FailCode, error: unknown): void {
    this.#stage.lease.live = false
    const { text, stack } = this.#host.explain?.(error) ?? { text: messageOf(error), stack: null }
    const fatal = { t: 'fatal', code, message: cut(text) } as const
    this.#send(stack === null || stack === text ? fatal : { ...fatal, stack: cut(stack) })
    this.#host.exit(1)
  }
}
