/** Encodes, checks and migrates a program's state. State that JSON would change is refused while the old program still runs. */
import type { StateSpec } from './spec.ts'
import type { FailCode } from './wire.ts'

/** A failure with a code that the body understands. */
export class ProgramFailure extends Error {
  readonly code: FailCode
  constructor(code: FailCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
    // the stack to show is the cause's, in the author's code, not the SDK's
    this.stack = ''
  }
}

export type StateEncoding = 'json' | 'bytes'

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error))

/** Encodes a Uint8Array as its own bytes, without a copy, everything else as JSON. Throws `bad-state` (HANDOVER 5.5). */
export function encodeState(state: unknown): { encoding: StateEncoding; bytes: Uint8Array } {
  if (state instanceof Uint8Array) return { encoding: 'bytes', bytes: state }
  const lost = unserialisable(state ?? null)
  if (lost !== null) throw new ProgramFailure('bad-state', `the state cannot be handed over: ${lost}`)
  return { encoding: 'json', bytes: Buffer.from(JSON.stringify(state ?? null)) }
}

export function decodeState(bytes: Buffer, encoding: StateEncoding): unknown {
  return encoding === 'bytes'
    ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
    : JSON.parse(bytes.toString())
}

/** The first place that would not survive JSON, as text; null if there is none (HANDOVER 5.5). */
export function unserialisable(value: unknown, place = 'state', depth = 0): string | null {
  if (depth > 100) return `${place} is nested deeper than 100`
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return null
  if (typeof value === 'number') return Number.isFinite(value) ? null : `${place} is ${value}`
  if (typeof value !== 'object') return `${place} is a ${typeof value}`
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const found = unserialisable(value[i], `${place}[${i}]`, depth + 1)
      if (found !== null) return found
    }
    return null
  }
  const proto = Object.getPrototypeOf(value)
  if (proto !== Object.prototype && proto !== null)
    return `${place} is a ${value.constructor?.name ?? 'class instance'}`
  for (const [key, item] of Object.entries(value)) {
    if (item === undefined) continue
    const found = unserialisable(item, `${place}.${key}`, depth + 1)
    if (found !== null) return found
  }
  return null
}

/** Migrates an older state up; refuses a newer one. A program without state gets an empty object (HANDOVER 5.6, 5.8). */
export function migrateUp<S>(spec: StateSpec<S> | undefined, old: unknown, from: number): S {
  if (spec === undefined) return {} as S
  if (from === spec.version) return old as S
  if (from === 0) return spec.initial()
  if (from > spec.version) {
    throw new ProgramFailure('migrate-failed', `state is version ${from}, newer than this program's ${spec.version}`)
  }
  if (spec.migrate?.up === undefined) {
    throw new ProgramFailure(
      'migrate-failed',
      `state is version ${from}, this program has ${spec.version} and no migrate.up`,
    )
  }
  try {
    return spec.migrate.up(old, from)
  } catch (error) {
    throw new ProgramFailure('migrate-failed', `migrate.up from version ${from}: ${messageOf(error)}`, { cause: error })
  }
}

export function migrateDown<S>(spec: StateSpec<S> | undefined, now: S, to: number): unknown {
  if (spec === undefined || to === spec.version) return now
  if (spec.migrate?.down === undefined) {
    throw new ProgramFailure('migrate-failed', `no migrate.down from version ${spec.version} to ${to}`)
  }
  try {
    return spec.migrate.down(now, to)
  } catch (error) {
    throw new ProgramFailure('migrate-failed', `migrate.down to version ${to}: ${messageOf(error)}`, { cause: error })
  }
}
