/** How effects.ts puts its functions in the place of Node's. */
import type { Gate } from './gate.ts'

export type Call = (this: unknown, ...args: unknown[]) => unknown
/** What stands in the place of one, whatever it expects as `this`. */
export type Gated = (this: never, ...args: unknown[]) => unknown
/** A module of Node, or a prototype. */
export type Target = Record<string, unknown>

const OF_EVERY_FUNCTION: ReadonlySet<PropertyKey> = new Set(['length', 'name', 'prototype', 'arguments', 'caller'])

/** Exchanges a function, if it is there; the new one has the properties of the old one, as util.promisify.custom. */
export function exchange(target: Target, name: string, by: (real: Call) => Gated): void {
  const real = target[name]
  if (typeof real !== 'function') return
  const gated: object = by(real as Call)
  for (const key of Reflect.ownKeys(real)) {
    if (OF_EVERY_FUNCTION.has(key)) continue
    Object.defineProperty(gated, key, { ...Object.getOwnPropertyDescriptor(real, key), configurable: true })
  }
  target[name] = gated
}

/** In a round the answer never comes. */
export const never =
  (gate: Gate, isPromise: boolean) =>
  (real: Call): Call =>
    function (this: unknown, ...args: unknown[]) {
      if (gate.round === undefined) return real.apply(this, args)
      return isPromise ? new Promise(() => {}) : undefined
    }
