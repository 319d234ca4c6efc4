/** Measures how long a robot was without a good program, by the times in the trace, and prints a table at the end. */
import { formatMs } from '../../deploy/laptop/cli/term.ts'
import { summary } from '../kernel/summary.ts'
import type { Entry } from './trace.ts'

const ms = (from: bigint, to: bigint): number => Number(to - from) / 1e6

/** The longest time between two accepted writes. */
export function longestSilence(entries: readonly Entry[]): number {
  const times = entries.filter((entry) => entry.accepted && entry.kind !== 'input').map(({ ns }) => ns)
  times.sort((a, b) => Number(a - b))
  return times.reduce((most, ns, i) => Math.max(most, i === 0 ? 0 : ms(times[i - 1] ?? ns, ns)), 0)
}

/** Time from the last write of a program that ended to the body's first safe level. */
export function untilSafe(entries: readonly Entry[], fence: number): number {
  const last = entries.findLast((entry) => entry.accepted && entry.fence === fence)
  const safe = entries.find((entry) => entry.accepted && entry.fence > fence)
  if (last === undefined || safe === undefined) throw new Error(`nothing follows fence ${fence}`)
  return ms(last.ns, safe.ns)
}

export interface Measured {
  does: string
  ends: string
  exit: number
  ms: number
}

/** The table of the README: one row for each program, and one for all. */
export function report(title: string, measured: readonly Measured[]): void {
  const width = Math.max(...measured.map(({ does }) => does.length))
  const rows = measured.map(
    ({ does, ends, exit, ms }) =>
      `  ${does.padEnd(width)}  ${ends.padEnd(28)} exit ${exit}  ${formatMs(ms).padStart(9)}`,
  )
  console.log([`${title}: ${summary(measured.map(({ ms }) => ms))}`, ...rows].join('\n'))
}
