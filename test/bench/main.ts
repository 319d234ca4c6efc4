/**
 * `npm run bench -- NAME [--json] [--swaps N] [--only REGEX] [--realtime]`: measures the product, beside what else there
 * is. Exit 0: every sample is in a row. 1: some failed (goals that are missed fail nothing). 2: usage. `write --kernel`
 * starts the rig (test/kernel/rig.mjs), and measures in it.
 */
import { loadavg } from 'node:os'
import { parseArgs } from 'node:util'
import { boot } from './boot.ts'
import { gap } from './gap.ts'
import { push } from './push.ts'
import { Report } from './report.ts'
import { canRealtime } from './rig.ts'
import { seal } from './seal.ts'
import { session } from './session.ts'
import { softpwm } from './softpwm.ts'
import { start } from './start.ts'
import type { Series } from './stats.ts'
import { stop } from './stop.ts'
import { watch } from './watch.ts'
import { write } from './write.ts'

export interface BenchOptions {
  /** Samples of each variant; undefined: the bench's own number. */
  samples: number | undefined
  /** Whether a variant of this name is wanted. */
  wanted(variant: string): boolean
  /** SCHED_FIFO can be had. */
  realtime: boolean
  /** On the devices of a kernel that has them: of the rig. */
  kernel: boolean
  report: Report
}

const BENCHES: Record<string, (options: BenchOptions) => Promise<Series[]>> = {
  boot,
  gap,
  push,
  seal,
  session,
  softpwm,
  start,
  stop,
  watch,
  write,
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      swaps: { type: 'string' },
      only: { type: 'string', default: '' },
      realtime: { type: 'boolean', default: false },
      kernel: { type: 'boolean', default: false },
    },
  })
  const report = new Report(values.json)
  const samples = values.swaps === undefined ? undefined : Number(values.swaps)
  const name = positionals[0] ?? ''
  const bench = Object.hasOwn(BENCHES, name) ? BENCHES[name] : undefined
  if (bench === undefined || positionals.length > 1) {
    report.say(`expected one of ${Object.keys(BENCHES).join(', ')}, got ${JSON.stringify(positionals.join(' '))}`)
    return 2
  }
  if (samples !== undefined && !(Number.isInteger(samples) && samples >= 1 && samples <= 100_000)) {
    report.say(`--swaps: expected a whole number from 1, got ${values.swaps}`)
    return 2
  }
  const realtime = canRealtime()
  if (!realtime && values.realtime) {
    report.say('--realtime: chrt -f does not work here (it needs Linux, and root or a limit for rtprio)')
    return 1
  }
  if (values.kernel && (name !== 'write' || process.env.MEDULLA_RIG !== '1')) {
    report.say('--kernel: expected write, in the rig: npm run bench -- write --kernel')
    return 2
  }
  const wanted = new RegExp(values.only)
  report.say(`${name}: load ${loadavg()[0]?.toFixed(2)} at the start, Node ${process.version}`)
  let all: Series[] = []
  try {
    all = await bench({
      samples,
      wanted: (variant) => wanted.test(variant),
      realtime,
      kernel: values.kernel,
      report,
    })
  } finally {
    // the rows that were made before a failure, too
    report.end()
  }
  const failures = all.flatMap(({ variant, failures }) => failures.map((reason) => `${variant}: ${reason}`))
  for (const failure of failures.slice(0, 20)) report.say(`FAILED ${failure}`)
  if (failures.length > 0) report.say(`${failures.length} samples failed`)
  return failures.length === 0 ? 0 : 1
}

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.stack : String(error)}\n`)
  process.exitCode = 1
}
// idle sessions and pipes keep nothing alive
process.exit()
