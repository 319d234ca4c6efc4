/** Replaces functions of Node by gated ones, for effects.ts. */
import type { Gate } from './gate.ts'

export type RealFunction = (this: unknown, ...args: unknown[]) => unknown
/** The replacement of a function, with any `this`. */
export type GatedFunction = (this: never, ...args: unknown[]) => unknown
/** A module of Node, or a prototype. */
export type PatchTarget = Record<string, unknown>

const OF_EVERY_FUNCTION: ReadonlySet<PropertyKey> = new Set(['length', 'name', 'prototype', 'arguments', 'caller'])

/** Replaces a function, if it exists. The new function gets the properties of the old one, like util.promisify.custom. */
export function replaceFunction(target: PatchTarget, name: string, by: (real: RealFunction) => GatedFunction): void {
  const real = target[name]
  if (typeof real !== 'function') return
  const gated: object = by(real as RealFunction)
  for (const key of Reflect.ownKeys(real)) {
    if (OF_EVERY_FUNCTION.has(key)) continue
    Object.defineProperty(gated, key, { ...Object.getOwnPropertyDescriptor(real, key), configurable: true })
  }
  target[name] = gated
}

/** A call that is dropped in a round: it returns undefined, or a promise that never settles. */
export const dropInRound =
  (gate: Gate, isPromise: boolean) =>
  (real: RealFunction): RealFunction =>
    function (this: unknown, ...args: unknown[]) {
      if (gate.round === undefined) return real.apply(this, args)
      return isPromise ? new Promise(() => {}) : undefined
    }
