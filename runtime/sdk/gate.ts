/**
 * Invariant: what a program does to the world reaches it only while the program drives the hardware
 * (HANDOVER 13; test/runtime/gate.test.ts).
 *
 * The gate stands between a program, with all its packages, and what Node does for it: connections, servers, processes,
 * workers, timers, files that are written, output. effects.ts puts it there, once for a process and before anything of a
 * program runs. There are three situations:
 * - in a round of a rehearsal, and in whatever comes of one later, nothing passes and nothing comes back;
 * - outside of a round while the gate is closed (the program loads, or is parked), connections and servers begin when it
 *   opens, timers that are due wait for that, and processes, workers and written files are refused;
 * - while it is open everything passes.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { fileURLToPath } from 'node:url'
import { NOT_LIVE } from './wire.ts'

/** One call of a rehearsal, and all that came of it. */
export interface Round {
  /** The program got an empty answer for something that did not happen, so what it does next says little. */
  relied: boolean
  ended: boolean
  /** Undo what the round did to things that outlive it. */
  readonly undo: (() => void)[]
  /** Emitters that it made; every other one outlives it. */
  readonly made: WeakSet<object>
  /** Descriptors that it opened. */
  readonly fds: Set<number>
}

/** One call of `run` that drives the hardware, and all that came of it. */
interface LiveRun {
  /** Another one follows in this process: this one's doings are as those of a rehearsal. */
  ended: boolean
}

/** What is open, and how it is closed. */
interface Kept {
  readonly run: LiveRun | null
  readonly close: () => void
}

/** What begins when the gate opens. */
interface Deferred {
  readonly of: object
  readonly what: string
  readonly begin: () => void
}

/** loading: the top level runs. closed: it waits, or is parked. entering: `run` is called live. */
type Situation = 'loading' | 'closed' | 'entering' | 'open'

/** What the loader gives the SDK of it. */
export interface GatePort {
  /** Calls `fn` as a round of a rehearsal. */
  rehearse<T>(fn: (round: Round) => T): T
  /** Before `run` is called live: all passes, and connections and servers begin with `open`. */
  enter(): void
  /** The program drives the hardware: what waited begins in later turns of the event loop. */
  open(): void
  /** It does not any more. */
  close(): void
  /** Calls `fn` as a part of the present live run. */
  act<T>(fn: () => T): T
  /** Ends that run with all that is open of it: `run` is about to be called again. */
  renew(): void
}

/** A top level that takes longer, and has begun something that cannot begin yet, waits for it. */
const STUCK_MS = 2000

/** Timers that may be gone before anybody looks. */
const PRUNE = 1000

const newRound = (): Round => ({ relied: false, ended: false, undo: [], made: new WeakSet(), fds: new Set() })

const realImmediate = setImmediate
const realInterval = setInterval

const endless = (what: string): Error =>
  new Error(`the top level waits, and ${what} begins only when the program drives the hardware: move it into onLive`)

export class Gate implements GatePort {
  /** In a round, synchronously: asked where every ns counts. */
  rehearsing = false
  readonly #context = new AsyncLocalStorage<{ readonly round: Round; readonly run: LiveRun | null }>()
  #run: LiveRun | null = null
  readonly #kept = new Map<object, Kept>()
  #situation: Situation
  #deferred: Deferred[] = []
  #pruneAt = PRUNE
  /** A rehearsal has begun, so robot() was called: from then on a top level that waits is not stuck. */
  #rehearsed = false

  constructor(situation: 'loading' | 'open') {
    this.#situation = situation
  }

  /** The round that the running code belongs to, whenever it runs. */
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

  /** Effects pass outside of rounds, except connections and servers that are yet to begin. */
  get isLive(): boolean {
    return this.#situation === 'open' || this.#situation === 'entering'
  }

  /** Timers of the top level run: it may wait for them. */
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
      // as its own doing: what comes of it is inert, too
      this.#context.run({ round, run: null }, () => {
        for (const undo of round.undo.splice(0).reverse()) undo()
      })
    }
  }

  /**
   * `importing` is the top level of the program. Throws when it waits for what begins only later: that would never end.
   */
  async loading(importing: Promise<unknown>): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const stuck = new Promise<never>((_, reject) => {
      timer = realInterval(() => {
        const waits = this.#deferred[0]
        if (waits !== undefined && this.#situation === 'loading' && !this.#rehearsed) reject(endless(waits.what))
      }, STUCK_MS)
    })
    try {
      await Promise.race([importing, stuck])
    } finally {
      clearInterval(timer)
      if (this.#situation === 'loading') this.#situation = 'closed'
    }
  }

  /** Calls `fn` as if no round were under way: it is the runtime's, not the program's. */
  aside<T>(fn: () => T): T {
    return this.#context.run(undefined as never, fn)
  }

  enter(): void {
    if (this.#situation !== 'open') this.#situation = 'entering'
  }

  open(): void {
    this.#situation = 'open'
    // in turns of their own: never in the gap, and an exception of one is one of the program
    for (const { begin } of this.#deferred.splice(0)) realImmediate(begin)
  }

  close(): void {
    this.#situation = 'closed'
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
  }

  /** It is open, and belongs to the run that has opened it, until `forget`. */
  keep(of: object, close: () => void): void {
    this.#kept.set(of, { run: this.#context.getStore()?.run ?? null, close })
  }

  /** What is kept and goes away without a word, as a timer: `isGone` of it is asked now and then. */
  prune(isGone: (of: object) => boolean): void {
    if (this.#kept.size < this.#pruneAt) return
    for (const of of this.#kept.keys()) if (isGone(of)) this.#kept.delete(of)
    this.#pruneAt = 2 * this.#kept.size + PRUNE
  }

  /** `begin` is called when the gate opens, unless `forget(of)` comes before. */
  defer(of: object, what: string, begin: () => void): void {
    this.#deferred.push({ of, what, begin })
  }

  forget(of: object): void {
    this.#kept.delete(of)
    if (this.#deferred.length > 0) this.#deferred = this.#deferred.filter((each) => each.of !== of)
  }

  /** `code` is NOT_LIVE, or what packages know how to live with. */
  refusal(what: string, code: string = NOT_LIVE): Error {
    const message = `${what}: only a program that drives the hardware may do that; do it in run or in onLive, not at the top level`
    const error = Object.assign(new Error(message), { code })
    const own = fileURLToPath(import.meta.url)
    // the first place is one of the program
    const lines = (error.stack ?? '')
      .split('\n')
      .filter((line) => !line.includes(own) && !line.includes(import.meta.url))
    error.stack = lines.join('\n')
    return error
  }
}
