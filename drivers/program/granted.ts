/**
 * Finds the handles for a replacement of an npm package (drivers/program/npm), whose `open` gets none: the handles of
 * the live program, or those of its rehearsal, whichever the current call belongs to.
 */
import type { Handle, HandleByKind } from './handle.ts'

export type GrantedHandles = ReadonlyMap<string, Handle>

/** AsyncLocalStorage. Only the replacements load it, as it slows down every promise of a program. */
interface Scope {
  run<T>(handles: GrantedHandles, call: () => T): T
  getStore(): GrantedHandles | undefined
}

let scope: Scope | null = null
let latest: GrantedHandles | null = null

/** From now on a timer or promise keeps the handles of the call that created it. */
export function useScope(made: Scope): void {
  scope ??= made
}

/** Runs `call`, the `run` of a program, with these handles. */
export function withHandles<T>(handles: GrantedHandles, call: () => T): T {
  latest = handles
  return scope === null ? call() : scope.run(handles, call)
}

/** Wraps a callback of the program, so that it runs with these handles. */
export function bindTo<A extends unknown[], R>(handles: GrantedHandles, fn: (...args: A) => R): (...args: A) => R {
  const own = scope
  return own === null ? fn : (...args) => own.run(handles, () => fn(...args))
}

/** The program's handles of one kind. Throws when no program runs yet. */
export function grantedOf<K extends keyof HandleByKind>(kind: K, by: string): HandleByKind[K][] {
  const handles = scope?.getStore() ?? latest
  if (handles === null) throw new Error(`${by} is used before the program runs: use it inside run`)
  return [...handles.values()].filter((handle): handle is HandleByKind[K] => handle.kind === kind)
}

/** The program's handle with this name, or its only one of this kind. */
export function grantedOne<K extends keyof HandleByKind>(kind: K, by: string, name: string): HandleByKind[K] {
  const all = grantedOf(kind, by)
  const named = all.find((handle) => handle.name === name)
  if (named !== undefined) return named
  const [only, ...others] = all
  if (only === undefined) {
    throw new Error(`${by}: the program has no ${kind} handle: ask for one of the board, needs: { name: '${kind}' }`)
  }
  if (others.length === 0) return only
  const names = all.map((handle) => handle.name).join(', ')
  throw new Error(`${by}: the program has ${all.length} ${kind} handles, and ${name} is none of them: ${names}`)
}
