/**
 * Invariant: while a simulation acts, everybody in this process sees its time and no other; before and after, the real one.
 *
 * A program asks for the time through what JavaScript and Node give to everybody, and so does the slot around it. These
 * few globals are exchanged for the length of each call into the simulation: timers, Date, performance.now, hrtime, and
 * Math.random, which gets a seed. What a program imports from node:timers keeps the real time.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { promisify } from 'node:util'
import { promiseHooks } from 'node:v8'
import { VirtualClock } from '../../drivers/owner/sim/clock.ts'
import { inRehearsal } from './rehearsals.ts'

/** ns. More than the longest period of `every()`, so that no time is ever below 0. */
const START_NS = 100_000_000_000_000n
const RealDate = Date
const realImmediate = setImmediate

/** Whoever set a timer. */
export interface Owner {
  readonly alive: boolean
  /** Calls now, later (while it is frozen) or never (after its end), and takes what the call throws. */
  run(call: () => void): void
  /** What nobody catches, as an exception that ends a process. */
  caught(error: unknown): void
}

/** Whose code runs, also after an `await`. */
const owners = new AsyncLocalStorage<Owner | null>()

/** Calls what is no part of any program. */
export const asBody = <T>(call: () => T): T => owners.run(null, call)
/** Calls a part of a program. */
export const asProgram = <T>(owner: Owner, call: () => T): T => owners.run(owner, call)

/** What setTimeout gives: the methods of Node's own, which programs may call. */
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

/** The globals are one for all: what lasts over turns of the event loop waits for its turn. */
let queue: Promise<void> = Promise.resolve()

export interface TimeOptions {
  /** For Math.random. */
  readonly seed: number
  /** What Date says at the start. */
  readonly epochMs: number
  /** Gets what is written to stdout and stderr; absent: the process's own. */
  readonly output?: ((stream: 'stdout' | 'stderr', text: string) => void) | undefined
}

export class Time {
  readonly clock = new VirtualClock(START_NS)
  /** Whose code runs at the moment; null: the body's. */
  owner: Owner | null = null
  /** Something waits for a turn of the event loop. */
  astir = false
  /** Gets what timers throw that were set outside of any call of a program, as after an `await` of its own. */
  onLoose: (error: unknown) => void = () => {}
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

  /** Since the start. */
  get ns(): number {
    return Number(this.clock.now() - START_NS)
  }

  /** Acts at once; also amid another simulation, which goes on with its own time. */
  act<T>(call: () => T): T {
    this.#enter()
    try {
      return call()
    } finally {
      this.#leave()
    }
  }

  /** As `act`, over turns of the event loop; waits for other simulations of this process. */
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

  /** Lets the event loop turn: every promise that can go on has gone on afterwards. */
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
    // Node tells of rejections when the microtasks of this turn are done
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
    const stir = () => {
      this.astir = true
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
      put(globalThis, 'queueMicrotask', this.#stirring(queueMicrotask)),
      put(process, 'nextTick', this.#stirring(process.nextTick)),
      promiseHooks.createHook({ init: stir, settled: stir }) as () => void,
    ]
  }

  #stirring<A extends unknown[]>(call: (...args: A) => void): (...args: A) => void {
    return (...args) => {
      this.astir = true
      call(...args)
    }
  }

  #timeout(): object {
    const timeout = (call: Call, ms?: number, ...args: unknown[]) => this.#timer(call, args, millis(ms), false)
    const sleep = (ms?: number, value?: unknown) => new Promise((resolve) => timeout(resolve, ms, value))
    return Object.assign(timeout, { [promisify.custom]: sleep })
  }

  #timer(call: Call, args: unknown[], ns: bigint, again: boolean): Timer {
    // in a rehearsal no timer fires (HANDOVER 13.3)
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
        this.onLoose(error)
      }
    }
    const timer = new Timer(() => this.clock.after(ns, fire))
    return timer
  }

  /** Timers that were set before the simulation acted are not its own. */
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

/** While a simulation acts, what a program of it throws or rejects is that program's crash, and not its test's. */
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

/** ms as Node takes them, at least 1, in ns. */
const millis = (ms: unknown): bigint => BigInt(Math.round(Math.max(1, Number(ms) || 1) * 1e6))

/** Puts `value` in the place of a property; what it returns puts it back. */
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
