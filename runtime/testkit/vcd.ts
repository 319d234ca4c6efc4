/**
 * Writes a value change dump (IEEE 1364-2001, clause 18), which GTKWave opens: a header, all values at time 0, then the
 * changes, with each time once. Levels are wires of one bit, other values are real numbers. Times are ns.
 */
import type { Recorder } from './recorder.ts'

/** Printable ASCII, `!` to `~` (18.2.1). */
const FIRST = 33
const CODES = 94

export interface VcdOptions {
  /** Name of the scope that holds the handles. */
  readonly scope: string
  readonly date: Date
  /** Whether a handle has only the values 0 and 1. */
  readonly isLevel: (name: string) => boolean
}

/** The lines of the dump, without line ends. */
export function* vcdLines(recorder: Recorder, { scope, date, isLevel }: VcdOptions): Generator<string> {
  const names = recorder.names()
  const codes = new Map(names.map((name, index) => [name, code(index)]))
  const shown = (name: string, value: number): string =>
    isLevel(name) ? `${value}${codes.get(name)}` : `r${value} ${codes.get(name)}`
  yield `$date ${date.toISOString()} $end`
  yield '$version medulla $end'
  yield '$timescale 1 ns $end'
  yield `$scope module ${identifier(scope)} $end`
  const taken = new Set<string>()
  for (const name of names) {
    yield `$var ${isLevel(name) ? 'wire 1' : 'real 64'} ${codes.get(name)} ${unique(identifier(name), taken)} $end`
  }
  yield '$upscope $end'
  yield '$enddefinitions $end'
  yield '#0'
  yield '$dumpvars'
  for (const name of names) yield shown(name, recorder.first(name))
  yield '$end'
  let last = 0
  for (const { ns, name, value } of recorder.all()) {
    if (ns !== last) yield `#${ns}`
    last = ns
    yield shown(name, value)
  }
  yield `#${Math.max(last, recorder.ns)}`
}

function code(index: number): string {
  const char = String.fromCharCode(FIRST + (index % CODES))
  return index < CODES ? char : code(Math.floor(index / CODES) - 1) + char
}

/** A simple identifier. Other characters, like a hyphen, would need an escape that not every reader knows. */
const identifier = (name: string): string => name.replace(/[^A-Za-z0-9_]/g, '_')

function unique(name: string, taken: Set<string>): string {
  const free = taken.has(name) ? unique(`${name}_`, taken) : name
  taken.add(free)
  return free
}
