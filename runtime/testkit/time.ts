/**
 * Simulated time. Invariant: during a call into a simulation all code of this process sees simulated time; before and after
 * the call it sees the real time (test/runtime/testkit/simulate.test.ts).
 *
 * Programs, and the slot around them, read the time through globals. These are replaced for the length of each call into the
 * simulation: timers, Date, performance.now, hrtime, and Math.random, which gets a seed. Imports from node:timers keep the
 * real time.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { promisify } from 'node:util'
import { promiseHooks } from 'node:v8'
import { VirtualClock } from '../../drivers/owner/sim/clock.ts'
import { inRehearsal } from './rehearsals.ts'

/** Start of the clock, in ns. More than the longest period of `every()`, so that no time is below 0. */
const START_NS = 100_000_000_000_000n
const RealDate = Date
const realImmediate = setImmediate

/** The program to which running code, or a timer, belongs. */
export interface TimerOwner {
  readonly alive: boolean
  /** Calls now, after a freeze, or never if the program has ended. Catches the errors of the call. */
  run(call: () => void): void
  /** Takes an uncaught error, which ends the program. */
  caught(error: unknown): void
}

/** The program whose code runs, also after an `await`. */
const owners = new AsyncLocalStorage<TimerOwner | null>()

/** Calls code that belongs to no program. */
export const asBody = <T>(call: () => T): T => owners.run(null, call)
/** Calls code of a program. */
export const asProgram = <T>(owner: TimerOwner, call: () => T): T => owners.run(owner, call)

/** What setTimeout returns, with the methods of Node's Timeout. */
class Timer {
  readonly #set: () => () => void
  #cancel: () => void

  constructor(set: () => () => void) {
    this.#set = set
    this.#cancel = set()
  }

  refresh(): this {
    this.#cancel()
    this.#cancel = this.#set()
    return this
  }

  close(): this {
    this.#cancel()
    return this
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }
}

/** Only one simulation can replace the globals at a time: calls that last over turns of the event loop queue up. */
let queue: Promise<void> = Promise.resolve()

export interface TimeOptions {
  /** Seed of Math.random. */
  readonly seed: number
  /** The date at the start, in ms since 1970. */
  readonly epochMs: number
  /** Called with all that is written to stdout and stderr; absent: it is printed. */
  readonly output?: ((stream: 'stdout' | 'stderr', text: string) => void) | undefined
}

export class Time {
  readonly clock = new VirtualClock(START_NS)
  /** The program whose code runs synchronously; null: the body's code runs. */
  owner: TimerOwner | null = null
  /** Promises or microtasks are pending, so the event loop must turn before time passes. */
  pending = false
  /** Called with errors of timers that have no known owner. */
  onUnowned: (error: unknown) => void = () => {}
  readonly #epochMs: number
  #random: number
  #depth = 0
  #restore: (() => void)[] = []

  readonly #output: TimeOptions['output']

  constructor({ seed, epochMs, output }: TimeOptions) {
    this.#random = seed
    this.#epochMs = epochMs
    this.#output = output
  }

  /** ns since the start. */
  get ns(): number {
    return Number(this.clock.now() - START_NS)
  }

  /** Calls synchronously in simulated time, also during a call into another simulation. */
  act<T>(call: () => T): T {
    this.#enter()
    try {
      return call()
    } finally {
      this.#leave()
    }
  }

  /** Like `act`, for asynchronous calls. Waits for other simulations of this process. */
  async during<T>(call: () => Promise<T>): Promise<T> {
    const before = queue
    let done = (): void => {}
    queue = new Promise((resolve) => {
      done = resolve
    })
    await before
    this.#enter()
    try {
      return await call()
    } finally {
      this.#leave()
      done()
    }
  }

  /** Turns the event loop once: afterwards every promise that could go on has gone on. */
  turn(): Promise<void> {
    return new Promise((resolve) => realImmediate(resolve))
  }

  #enter(): void {
    if (this.#depth++ > 0) return
    this.#restore = this.#exchange()
    guard()
  }

  #leave(): void {
    if (--this.#depth > 0) return
    for (const restore of this.#restore) restore()
    // Node reports unhandled rejections after the microtasks of this turn
    realImmediate(unguard)
  }

  #exchange(): (() => void)[] {
    const now = () => this.#epochMs + this.ns / 1e6
    const bigint = () => this.clock.now()
    const hrtime = (since: readonly [number, number] = [0, 0]) => {
      const ns = this.clock.now() - BigInt(since[0]) * 1_000_000_000n - BigInt(since[1])
      return [Number(ns / 1_000_000_000n), Number(ns % 1_000_000_000n)]
    }
    class VirtualDate extends RealDate {
      constructor(...args: [] | [number]) {
        if (args.length === 0) super(now())
        else super(...args)
      }

      static override now(): number {
        return Math.floor(now())
      }

      static override [Symbol.hasInstance](value: unknown): boolean {
        return value instanceof RealDate
      }
    }
    const clear = this.#clear()
    const markPending = () => {
      this.pending = true
    }
    const output = this.#output
    const writer = (stream: 'stdout' | 'stderr') => (text: unknown) => {
      output?.(stream, String(text))
      return true
    }
    return [
      ...(output === undefined
        ? []
        : [put(process.stdout, 'write', writer('stdout')), put(process.stderr, 'write', writer('stderr'))]),
      put(globalThis, 'setTimeout', this.#timeout()),
      put(globalThis, 'setInterval', (call: Call, ms?: number, ...args: unknown[]) =>
        this.#timer(call, args, millis(ms), true),
      ),
      put(globalThis, 'setImmediate', (call: Call, ...args: unknown[]) => this.#timer(call, args, 0n, false)),
      put(globalThis, 'clearTimeout', clear),
      put(globalThis, 'clearInterval', clear),
      put(globalThis, 'clearImmediate', clear),
      put(globalThis, 'Date', VirtualDate),
      put(performance, 'now', () => Number(this.clock.now()) / 1e6),
      put(process, 'hrtime', Object.assign(hrtime, { bigint })),
      put(Math, 'random', () => this.#next()),
      put(globalThis, 'queueMicrotask', this.#markPending(queueMicrotask)),
      put(process, 'nextTick', this.#markPending(process.nextTick)),
      promiseHooks.createHook({ init: markPending, settled: markPending }) as () => void,
    ]
  }

  #markPending<A extends unknown[]>(call: (...args: A) => void): (...args: A) => void {
    return (...args) => {
      this.pending = true
      call(...args)
    }
  }

  #timeout(): object {
    const timeout = (call: Call, ms?: number, ...args: unknown[]) => this.#timer(call, args, millis(ms), false)
    const sleep = (ms?: number, value?: unknown) => new Promise((resolve) => timeout(resolve, ms, value))
    return Object.assign(timeout, { [promisify.custom]: sleep })
  }

  #timer(call: Call, args: unknown[], ns: bigint, again: boolean): Timer {
    // in a rehearsal timers never fire (HANDOVER 13.3)
    if (inRehearsal()) return new Timer(() => () => {})
    const owner = this.owner ?? owners.getStore() ?? null
    const work = (): void => call(...args)
    const fire = (): void => {
      if (owner?.alive === false) return
      if (again) timer.refresh()
      if (owner !== null) return owner.run(work)
      try {
        work()
      } catch (error) {
        this.onUnowned(error)
      }
    }
    const timer = new Timer(() => this.clock.after(ns, fire))
    return timer
  }

  /** Clears simulated timers; timers that were set outside of the simulation are real, and cleared as such. */
  #clear(): (timer: unknown) => void {
    const real = clearTimeout
    return (timer) => {
      if (timer instanceof Timer) timer.close()
      else real(timer as NodeJS.Timeout)
    }
  }

  /** mulberry32, by Tommy Ettinger; public domain. */
  #next(): number {
    this.#random = (this.#random + 0x6d2b79f5) | 0
    let mixed = Math.imul(this.#random ^ (this.#random >>> 15), 1 | this.#random)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const TRAPPED = ['uncaughtException', 'unhandledRejection'] as const
let guards = 0
let unset: (() => void)[] = []

/** During a call into a simulation, an uncaught error of a program crashes that program and does not fail its test. */
function guard(): void {
  if (guards++ > 0) return
  unset = TRAPPED.map((event) => {
    const others = process.rawListeners(event) as ((error: unknown, promise: unknown) => void)[]
    const trap = (error: unknown, promise: unknown): void => {
      if (inRehearsal()) return
      const owner = owners.getStore()
      if (owner) return owner.caught(error)
      if (others.length === 0) throw error
      for (const other of others) other(error, promise)
    }
    process.removeAllListeners(event)
    process.on(event, trap)
    return () => {
      process.removeListener(event, trap)
      for (const other of others) process.on(event, other)
    }
  })
}

function unguard(): void {
  if (--guards === 0) for (const restore of unset) restore()
}

type Call = (...args: unknown[]) => void

/** A timer's ms, at least 1 as in Node, in ns. */
const millis = (ms: unknown): bigint => BigInt(Math.round(Math.max(1, Number(ms) || 1) * 1e6))

/** Replaces a property. Returns a function that restores the property. */
function put(target: object, key: string, value: unknown): () => void {
  const before = Object.getOwnPropertyDescriptor(target, key)
  Object.defineProperty(target, key, {
    value,
    writable: true,
    configurable: true,
    enumerable: before?.enumerable ?? false,
  })
  return () => {
    if (before === undefined) Reflect.deleteProperty(target, key)
    else Object.defineProperty(target, key, before)
  }
}
