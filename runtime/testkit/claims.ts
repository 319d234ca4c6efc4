/** `assertStatesAndTimes`: compares all values of a handle between two times with the expected ones. */
import { AssertionError } from 'node:assert'
import type { Moment } from './recorder.ts'

/** A value, and the time in ms since the start at which the handle took it. */
export type StateAndTime = readonly [value: number, ms: number]

export interface Tolerance {
  /** Default 0.001. */
  readonly ms?: number
  /** Default 1e-9. */
  readonly value?: number
}

/** Throws AssertionError that holds both lists. The first state may have begun before its time. */
export function assertStatesAndTimes(
  name: string,
  changes: readonly Moment[],
  expected: readonly StateAndTime[],
  { ms = 0.001, value = 1e-9 }: Tolerance = {},
): void {
  const [first, last] = [expected[0], expected.at(-1)]
  if (first === undefined || last === undefined) throw new TypeError(`${name}: expected at least one state`)
  const until = last[1] + ms
  const held = changes.findLastIndex((change) => change.ms <= first[1] + ms)
  const seen = changes.slice(Math.max(0, held)).filter((change, at) => at === 0 || change.ms <= until)
  const actual = seen.map(
    (change, at): StateAndTime => [change.value, at === 0 ? Math.max(change.ms, first[1]) : change.ms],
  )
  const same = (a: StateAndTime, b: StateAndTime | undefined) =>
    b !== undefined && Math.abs(a[0] - b[0]) <= value && Math.abs(a[1] - b[1]) <= ms
  if (actual.length === expected.length && actual.every((each, at) => same(each, expected[at]))) return
  const wrong = expected.findIndex((each, at) => !same(each, actual[at]))
  const at = wrong < 0 ? expected.length : wrong
  throw new AssertionError({
    message: `${name}: state ${at + 1}: expected ${shown(expected[at])}, got ${shown(actual[at])}`,
    actual,
    expected,
    operator: 'assertStatesAndTimes',
  })
}

const shown = (state: StateAndTime | undefined): string =>
  state === undefined ? 'no further state' : `${state[0]} from ${state[1]} ms on`
