/**
 * Timers at the gate: in a round none ever fires; those of the top level that are due while the gate is closed fire when it
 * opens, an interval once.
 */
import timers from 'node:timers'
import timersPromises from 'node:timers/promises'
import { promisify } from 'node:util'
import { type Call, exchange, never, type Target } from './exchange.ts'
import type { Gate } from './gate.ts'

export function gateTimers(gate: Gate): void {
  const global = globalThis as unknown as Target
  const own = timers as unknown as Target
  for (const name of ['setTimeout', 'setInterval', 'setImmediate']) {
    const clear = global[name.replace('set', 'clear')] as Call
    const promised = (global[name] as { [promisify.custom]?: Call })[promisify.custom]
    exchange(global, name, (real) => gated(gate, real, clear))
    if (promised !== undefined) {
      Object.defineProperty(global[name], promisify.custom, { value: promises(gate, promised), configurable: true })
    }
    own[name] = global[name]
  }
  // what a round could clear is not its own: its own timers are cleared already
  for (const name of ['clearTimeout', 'clearInterval', 'clearImmediate']) {
    exchange(global, name, never(gate, false))
    own[name] = global[name]
  }
  exchange(
    global,
    'queueMicrotask',
    (real) =>
      function (this: unknown, ...args: unknown[]) {
        const [call] = args
        if (gate.round === undefined || typeof call !== 'function') return real.apply(this, args)
        // Node forgets the context of an exception in a microtask
        return real.call(this, () => {
          try {
            call()
          } catch {
            // of a rehearsal
          }
        })
      },
  )
  exchange(
    process as unknown as Target,
    'nextTick',
    (real) =>
      function (this: unknown, ...args: unknown[]) {
        const [call, ...given] = args
        if (gate.round === undefined || typeof call !== 'function') return real.apply(process, args)
        // after an exception Node goes on with the queue in the next turn of the loop: the live run would wait for each
        return real.call(process, () => {
          try {
            call(...given)
          } catch {
            // of a rehearsal
          }
        })
      },
  )
  const module = timersPromises as unknown as Target
  for (const name of ['setTimeout', 'setImmediate']) exchange(module, name, (real) => promises(gate, real))
  exchange(
    module,
    'setInterval',
    (real) =>
      function (this: unknown, ...args: unknown[]) {
        if (gate.round !== undefined) return endless()
        const ticks = real.apply(this, args) as AsyncIterable<unknown>
        return gate.isLive ? ticks : gatedTicks(gate, ticks)
      },
  )
  const scheduler = Object.getPrototypeOf(timersPromises.scheduler) as Target
  for (const name of ['wait', 'yield']) exchange(scheduler, name, (real) => promises(gate, real))
}

const nothing = (): void => {}
/** Of a Timeout of Node, and of nothing else. */
const isGone = (timer: object): boolean => (timer as { _destroyed?: boolean })._destroyed === true

function gated(gate: Gate, real: Call, clear: Call): Call {
  return function (this: unknown, ...args: unknown[]) {
    if (gate.round !== undefined) {
      const dead = real.call(this, nothing, 1)
      clear(dead)
      return dead
    }
    const [call] = args
    if (gate.isLive || typeof call !== 'function') {
      const timer = real.apply(this, args) as object
      // an immediate is gone before anybody could end it
      if (real.name !== 'setImmediate' && gate.isOwned) {
        gate.prune(isGone)
        gate.keep(timer, () => clear(timer))
      }
      return timer
    }
    const timer: object = real.call(
      this,
      (...given: unknown[]) => {
        if (gate.isLive || gate.isLoading) return call.apply(timer, given)
        gate.forget(timer)
        gate.defer(timer, 'a timer', () => call.apply(timer, given))
      },
      ...args.slice(1),
    ) as object
    return timer
  }
}

/** As `gated`, for timers that are promises. */
function promises(gate: Gate, real: Call): Call {
  return async function (this: unknown, ...args: unknown[]) {
    if (gate.round !== undefined) return new Promise(nothing)
    const value = await real.apply(this, args)
    await mayFire(gate)
    return value
  }
}

async function* gatedTicks(gate: Gate, ticks: AsyncIterable<unknown>): AsyncGenerator<unknown> {
  for await (const tick of ticks) {
    await mayFire(gate)
    yield tick
  }
}

const mayFire = (gate: Gate): Promise<void> | undefined =>
  gate.isLive || gate.isLoading ? undefined : new Promise((resolve) => gate.defer({}, 'a timer', resolve))

/** What `for await` waits for and never gets. */
function endless(): AsyncIterator<never> & AsyncIterable<never> {
  const iterator = {
    next: () => new Promise<never>(() => {}),
    [Symbol.asyncIterator]: () => iterator,
  }
  return iterator
}
