/**
 * Invariant: a program's effects on the world happen only while the program drives the hardware
 * (HANDOVER 13; test/runtime/sdk/gate.test.ts).
 *
 * The gate stands between a program, with all its packages, and Node: connections, servers, processes, workers, timers,
 * written files, output. effects.ts installs it once in a process, before any program code runs. There are three cases:
 * - in a round of a rehearsal, and in callbacks that a round caused, every effect is dropped and no answer comes;
 * - outside of a round, while the gate is closed (the program loads, or is parked), connections and servers begin when the
 *   gate opens, due timers fire then, and processes, workers and written files are refused;
 * - while the gate is open, everything passes.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { fileURLToPath } from 'node:url'
import { NOT_LIVE } from './wire.ts'

/** One call of a rehearsal, and all callbacks that it caused. */
export interface Round {
  /** The program got an empty answer for a dropped effect, so an exception after that is not counted against it. */
  relied: boolean
  ended: boolean
  /** Functions that undo what the round did to objects that outlive it. */
  readonly undo: (() => void)[]
  /** Emitters that the round made; every other emitter outlives the round. */
  readonly made: WeakSet<object>
  /** Descriptors that the round opened. */
  readonly fds: Set<number>
}

/** One call of `run` that drives the hardware, and all callbacks that it caused. */
interface LiveRun {
  /** `run` was called anew in this process: late callbacks of this run are treated like those of a rehearsal. */
  ended: boolean
}

/** An open resource: the run that opened it, and how to close it. */
interface Kept {
  readonly run: LiveRun | null
  readonly close: () => void
}

/** An effect that begins when the gate opens. `what` is its name in messages. */
interface Deferred {
  readonly of: object
  readonly what: string
  readonly begin: () => void
}

/** loading: the top level runs. closed: the program waits or is parked. entering: `run` is being called live. */
type Situation = 'loading' | 'closed' | 'entering' | 'open'

/** Learns when the program begins and ends to drive the hardware. */
export interface GateFollower {
  opened(): void
  closed(): void
  /** `run` is about to be called again in this process. */
  renewed(): void
}

/** The part of the gate that the SDK uses. */
export interface GatePort {
  /** Calls `fn` as a round of a rehearsal. */
  rehearse<T>(fn: (round: Round) => T): T
  /** To be called before `run` is called live: from now on effects pass, but connections and servers begin with `open`. */
  enter(): void
  /** The program drives the hardware: deferred effects begin in later turns of the event loop. */
  open(): void
  /** The program no longer drives the hardware. */
  close(): void
  /** Calls `fn` as a part of the present live run. */
  act<T>(fn: () => T): T
  /** Ends the present live run and closes what it opened, because `run` is about to be called again. */
  renew(): void
}

/** A top level that takes longer than this, and has a deferred effect, is taken to wait for that effect for ever. */
const STUCK_MS = 2000

/** So many kept timers may have ended before `prune` looks at them. */
const PRUNE = 1000

const newRound = (): Round => ({ relied: false, ended: false, undo: [], made: new WeakSet(), fds: new Set() })

const realImmediate = setImmediate
const realInterval = setInterval

const stuckError = (what: string): Error =>
  new Error(`the top level waits, and ${what} begins only when the program drives the hardware: move it into onLive`)

export class Gate implements GatePort {
  /** A round runs right now, synchronously. A plain field, as every write of a handle reads it. */
  rehearsing = false
  readonly #context = new AsyncLocalStorage<{ readonly round: Round; readonly run: LiveRun | null }>()
  #run: LiveRun | null = null
  readonly #kept = new Map<object, Kept>()
  #situation: Situation
  #deferred: Deferred[] = []
  readonly #followers: GateFollower[] = []
  #pruneAt = PRUNE
  /** A rehearsal has begun, so robot() was called: from then on a waiting top level is not stuck. */
  #rehearsed = false

  constructor(situation: 'loading' | 'open') {
    this.#situation = situation
  }

  /** The round that the running code belongs to, also in a callback long after the round. */
  get round(): Round | undefined {
    const context = this.#context.getStore()
    return context === undefined || context.run?.ended === false ? undefined : context.round
  }

  /** The running code belongs to a live run. */
  get isOwned(): boolean {
    return this.#context.getStore()?.run?.ended === false
  }

  get isOpen(): boolean {
    return this.#situation === 'open'
  }

  /** Outside of rounds effects pass, except that connections and servers still wait while `entering`. */
  get isLive(): boolean {
    return this.#situation === 'open' || this.#situation === 'entering'
  }

  /** Timers fire while the top level runs, as the top level may await them. */
  get isLoading(): boolean {
    return this.#situation === 'loading'
  }

  rehearse<T>(fn: (round: Round) => T): T {
    const round = newRound()
    this.#rehearsed = true
    const before = this.rehearsing
    this.rehearsing = true
    try {
      return this.#context.run({ round, run: null }, fn, round)
    } finally {
      this.rehearsing = before
      round.ended = true
      // in the round's context, so that callbacks of the undo functions are dropped too
      this.#context.run({ round, run: null }, () => {
        for (const undo of round.undo.splice(0).reverse()) undo()
      })
    }
  }

  /**
   * `importing` is the import of the program. Throws when the top level waits for an effect that begins only when the gate
   * opens: that import would never end.
   */
  async loading(importing: Promise<unknown>): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const stuck = new Promise<never>((_, reject) => {
      timer = realInterval(() => {
        const waits = this.#deferred[0]
        if (waits !== undefined && this.#situation === 'loading' && !this.#rehearsed) reject(stuckError(waits.what))
      }, STUCK_MS)
    })
    try {
      await Promise.race([importing, stuck])
    } finally {
      clearInterval(timer)
      if (this.#situation === 'loading') this.#situation = 'closed'
    }
  }

  /** Calls `fn`, which is the runtime's code, outside of any round. */
  aside<T>(fn: () => T): T {
    return this.#context.run(undefined as never, fn)
  }

  follow(follower: GateFollower): void {
    this.#followers.push(follower)
  }

  enter(): void {
    if (this.#situation !== 'open') this.#situation = 'entering'
  }

  open(): void {
    this.#situation = 'open'
    // one turn of the event loop for each: none runs in the gap, and an exception is reported as the program's
    for (const { begin } of this.#deferred.splice(0)) realImmediate(begin)
    for (const follower of this.#followers) follower.opened()
  }

  close(): void {
    this.#situation = 'closed'
    for (const follower of this.#followers) follower.closed()
  }

  act<T>(fn: () => T): T {
    this.#run ??= { ended: false }
    return this.#context.run({ round: { ...newRound(), ended: true }, run: this.#run }, fn)
  }

  renew(): void {
    const run = this.#run
    if (run === null) return
    for (const [of, kept] of this.#kept) {
      if (kept.run !== run) continue
      this.#kept.delete(of)
      kept.close()
    }
    run.ended = true
    this.#run = null
    for (const follower of this.#followers) follower.renewed()
  }

  /** Remembers an open resource of the present run until `forget(of)`. */
  keep(of: object, close: () => void): void {
    this.#kept.set(of, { run: this.#context.getStore()?.run ?? null, close })
  }

  /** Forgets resources that end without an event, like timers: those for which `isGone` is true. Looks only now and then. */
  prune(isGone: (of: object) => boolean): void {
    if (this.#kept.size < this.#pruneAt) return
    for (const of of this.#kept.keys()) if (isGone(of)) this.#kept.delete(of)
    this.#pruneAt = 2 * this.#kept.size + PRUNE
  }

  /** Calls `begin` when the gate opens, unless `forget(of)` is called before. */
  defer(of: object, what: string, begin: () => void): void {
    this.#deferred.push({ of, what, begin })
  }

  forget(of: object): void {
    this.#kept.delete(of)
    if (this.#deferred.length > 0) this.#deferred = this.#deferred.filter((each) => each.of !== of)
  }

  /** `code` is NOT_LIVE, or a code that packages handle, like EROFS. */
  refusal(what: string, code: string = NOT_LIVE): Error {
    const message = `${what}: only a program that drives the hardware may do that; do it in run or in onLive, not at the top level`
    const error = Object.assign(new Error(message), { code })
    const own = fileURLToPath(import.meta.url)
    // without the gate's own frames, so that the first frame is the program's
    const lines = (error.stack ?? '')
      .split('\n')
      .filter((line) => !line.includes(own) && !line.includes(import.meta.url))
    error.stack = lines.join('\n')
    return error
  }
}
