/**
 * Which handles the call under way belongs to: those of the live program, or of a rehearsal of it. What stands in for an
 * npm package opens them as the package would open a bus.
 */
import type { Handle, HandleByKind } from './handle.ts'

export type Handles = ReadonlyMap<string, Handle>

/** AsyncLocalStorage, where somebody needs it: following calls costs every promise of the program. */
interface Scope {
  run<T>(handles: Handles, call: () => T): T
  getStore(): Handles | undefined
}

let scope: Scope | null = null
let latest: Handles | null = null

/** From now on timers and promises are told apart by the call that they come from. */
export function follow(made: Scope): void {
  scope ??= made
}

/** `run` of a program, with the handles of its stage. */
export function within<T>(handles: Handles, call: () => T): T {
  latest = handles
  return scope === null ? call() : scope.run(handles, call)
}

/** A callback that the program gave in a call {@link within} these handles. */
export function kept<A extends unknown[], R>(handles: Handles, fn: (...args: A) => R): (...args: A) => R {
  const own = scope
  return own === null ? fn : (...args) => own.run(handles, () => fn(...args))
}

/** Of one kind; throws when no program runs yet. */
export function grantedOf<K extends keyof HandleByKind>(kind: K, by: string): HandleByKind[K][] {
  const handles = scope?.getStore() ?? latest
  if (handles === null) throw new Error(`${by} is used before the program runs: use it inside run`)
  return [...handles.values()].filter((handle): handle is HandleByKind[K] => handle.kind === kind)
}

/** The one that is meant: by its name, or because there is no other. */
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
