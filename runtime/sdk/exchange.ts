/** How effects.ts puts its functions in the place of Node's. */
import type { Gate } from './gate.ts'

export type Call = (this: unknown, ...args: unknown[]) => unknown
/** What stands in the place of one, whatever it expects as `this`. */
export type Gated = (this: never, ...args: unknown[]) => unknown
/** A module of Node, or a prototype. */
export type Target = Record<string, unknown>

/** Exchanges a function, if it is there; the new one has the name, the length and the properties of the old one. */
export function exchange(target: Target, name: string, by: (real: Call) => Gated): void {
  const real = target[name]
  if (typeof real !== 'function') return
  const gated: object = by(real as Call)
  // among others util.promisify.custom
  Object.defineProperties(gated, { ...Object.getOwnPropertyDescriptors(gated), ...carried(real) })
  const { enumerable = true } = Object.getOwnPropertyDescriptor(target, name) ?? {}
  Object.defineProperty(target, name, { value: gated, writable: true, configurable: true, enumerable })
}

function carried(real: object): PropertyDescriptorMap {
  const all = Object.getOwnPropertyDescriptors(real) as PropertyDescriptorMap
  const kept = Reflect.ownKeys(all).filter((key) => key !== 'prototype' && key !== 'arguments' && key !== 'caller')
  return Object.fromEntries(kept.map((key) => [key, { ...all[key as string], configurable: true }]))
}

/** In a round the answer never comes. */
export const never =
  (gate: Gate, isPromise: boolean) =>
  (real: Call): Call =>
    function (this: unknown, ...args: unknown[]) {
      if (gate.round === undefined) return real.apply(this, args)
      return isPromise ? new Promise(() => {}) : undefined
    }
