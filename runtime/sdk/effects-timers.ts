/**
 * Gates timers. In a round of a rehearsal no timer ever fires. A timer of the top level that is due while the gate is closed
 * fires when the gate opens; an interval then fires once.
 */
import timers from 'node:timers'
import timersPromises from 'node:timers/promises'
import { promisify } from 'node:util'
import { dropInRound, type PatchTarget, type RealFunction, replaceFunction } from './exchange.ts'
import type { Gate } from './gate.ts'

export function gateTimers(gate: Gate): void {
  const global = globalThis as unknown as PatchTarget
  const own = timers as unknown as PatchTarget
  for (const name of ['setTimeout', 'setInterval', 'setImmediate']) {
    const clear = global[name.replace('set', 'clear')] as RealFunction
    const promised = (global[name] as { [promisify.custom]?: RealFunction })[promisify.custom]
    replaceFunction(global, name, (real) => gated(gate, real, clear))
    if (promised !== undefined) {
      Object.defineProperty(global[name], promisify.custom, { value: promises(gate, promised), configurable: true })
    }
    own[name] = global[name]
  }
  // a round's own timers are cleared already, so a timer that a round clears belongs to the program outside of it
  for (const name of ['clearTimeout', 'clearInterval', 'clearImmediate']) {
    replaceFunction(global, name, dropInRound(gate, false))
    own[name] = global[name]
  }
  replaceFunction(
    global,
    'queueMicrotask',
    (real) =>
      function (this: unknown, ...args: unknown[]) {
        const [call] = args
        if (gate.round === undefined || typeof call !== 'function') return real.apply(this, args)
        // Node reports an exception of a microtask without its async context, so the loader could not tell that it is a rehearsal's
        return real.call(this, () => {
          try {
            call()
          } catch {
            // an exception in a rehearsal does not count
          }
        })
      },
  )
  replaceFunction(
    process as unknown as PatchTarget,
    'nextTick',
    (real) =>
      function (this: unknown, ...args: unknown[]) {
        const [call, ...given] = args
        if (gate.round === undefined || typeof call !== 'function') return real.apply(process, args)
        // after an exception Node runs the rest of the queue one turn of the loop later, which would delay the live run
        return real.call(process, () => {
          try {
            call(...given)
          } catch {
            // an exception in a rehearsal does not count
          }
        })
      },
  )
  const module = timersPromises as unknown as PatchTarget
  for (const name of ['setTimeout', 'setImmediate']) replaceFunction(module, name, (real) => promises(gate, real))
  replaceFunction(
    module,
    'setInterval',
    (real) =>
      function (this: unknown, ...args: unknown[]) {
        if (gate.round !== undefined) return endless()
        const ticks = real.apply(this, args) as AsyncIterable<unknown>
        return gate.isLive ? ticks : gatedTicks(gate, ticks)
      },
  )
  const scheduler = Object.getPrototypeOf(timersPromises.scheduler) as PatchTarget
  for (const name of ['wait', 'yield']) replaceFunction(scheduler, name, (real) => promises(gate, real))
}

const nothing = (): void => {}
/** Whether a Timeout has fired or was cleared. `_destroyed` is a field of Node's Timeout only. */
const isGone = (timer: object): boolean => (timer as { _destroyed?: boolean })._destroyed === true

function gated(gate: Gate, real: RealFunction, clear: RealFunction): RealFunction {
  return function (this: unknown, ...args: unknown[]) {
    if (gate.round !== undefined) {
      const dead = real.call(this, nothing, 1)
      clear(dead)
      return dead
    }
    const [call] = args
    if (gate.isLive || typeof call !== 'function') {
      const timer = real.apply(this, args) as object
      // an immediate runs in this turn of the loop, so there is no need to keep it
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

/** Like `gated`, for timers that return a promise. */
function promises(gate: Gate, real: RealFunction): RealFunction {
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

/** An iterator whose next value never comes. */
function endless(): AsyncIterator<never> & AsyncIterable<never> {
  const iterator = {
    next: () => new Promise<never>(() => {}),
    [Symbol.asyncIterator]: () => iterator,
  }
  return iterator
}
