/** Invariant: every sample is in the row; nothing is trimmed, and a failure is counted and named beside them. */
import { loadavg } from 'node:os'

export interface Row {
  bench: string
  variant: string
  n: number
  p50: number
  p99: number
  max: number
  unit: string
  failed?: number
  note?: string
  /** What the row is held against, and whether it holds. */
  goal?: Goal
  met?: boolean
  /** Load average of the last minute when the row was made: who else used the machine. */
  load: number
}

/** Upper limits. */
export interface Goal {
  p50?: number
  p99?: number
  max?: number
}

/** Nearest rank: a value that was measured. */
export function percentile(sorted: readonly number[], p: number): number {
  return sorted[Math.max(0, Math.ceil((p / 100) * sorted.length) - 1)] ?? Number.NaN
}

/** The samples of one variant, in the order in which they came. */
export class Series {
  readonly bench: string
  readonly variant: string
  readonly unit: string
  readonly samples: number[] = []
  readonly failures: string[] = []
  note: string | undefined
  goal: Goal | undefined

  constructor(bench: string, variant: string, unit: string, about: { note?: string; goal?: Goal | undefined } = {}) {
    this.bench = bench
    this.variant = variant
    this.unit = unit
    this.note = about.note
    this.goal = about.goal
  }

  add(sample: number): void {
    if (Number.isFinite(sample)) this.samples.push(sample)
    else this.fail(`the sample is ${sample}`)
  }

  fail(reason: string): void {
    this.failures.push(reason)
  }

  row(): Row {
    const sorted = [...this.samples].sort((a, b) => a - b)
    const [p50, p99, max] = [50, 99, 100].map((p) => rounded(percentile(sorted, p))) as [number, number, number]
    const { bench, variant, unit, note, goal } = this
    const row: Row = { bench, variant, n: sorted.length, p50, p99, max, unit, load: rounded(loadavg()[0] as number) }
    if (this.failures.length > 0) row.failed = this.failures.length
    if (note !== undefined) row.note = note
    if (goal !== undefined) {
      row.goal = goal
      const { p50: most = Infinity, p99: mostly = Infinity, max: ever = Infinity } = goal
      row.met = row.failed === undefined && p50 <= most && p99 <= mostly && max <= ever
    }
    return row
  }
}

/** Four significant digits: more than the measurement has. */
function rounded(value: number): number {
  return Number(value.toPrecision(4))
}

/** `theirs` by `ours`, statistic by statistic, and what the p50 of it is held against. */
export function ratio(
  bench: string,
  variant: string,
  theirs: Row,
  ours: Row,
  { least, most }: { least?: number; most?: number } = {},
): Row {
  const of = (key: 'p50' | 'p99' | 'max') => rounded(theirs[key] / ours[key])
  const held = least !== undefined ? `, goal p50 >= ${least}` : most !== undefined ? `, goal p50 <= ${most}` : ''
  const row: Row = {
    bench,
    variant,
    n: Math.min(theirs.n, ours.n),
    p50: of('p50'),
    p99: of('p99'),
    max: of('max'),
    unit: 'x',
    note: `${theirs.variant} / ${ours.variant}${held}`,
    load: ours.load,
  }
  if (held === '') return row
  return { ...row, met: row.p50 >= (least ?? 0) && row.p50 <= (most ?? Infinity) }
}
