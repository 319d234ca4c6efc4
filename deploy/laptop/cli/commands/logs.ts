import type { Command } from 'commander'
import { LOG_LEVELS } from '../../../shared/api.ts'
import { Refusal } from '../../../shared/errors.ts'
import type { LogOptions } from '../../client.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { followLogs } from '../followlogs.ts'
import { untilInterrupt } from '../interrupt.ts'
import { Link } from '../link.ts'
import { logLine } from '../loglines.ts'
import { checkSlot } from '../pushing.ts'

interface Options {
  lines: string
  follow?: true
  since?: string
  level?: string
  slot?: string
}

const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'What a program printed and logged, with lines of the runtime about it, oldest first. The robot keeps the last 2,000 ' +
        'lines of each slot.',
    )
    .option('-n, --lines <count>', 'how many of the last lines', '100')
    .option('-f, --follow', 'print new lines until Ctrl-C')
    .option('--since <when>', 'lines since then: 30s, 10m, 2h, 1d, or a time like 2026-11-27T14:00:00Z')
    .option('--level <level>', `this level and worse: ${LOG_LEVELS.join(', ')}; stdout counts as info, stderr as warn`)
    .option('--slot <slot>', 'which slot, or all (default: main)')
    .addHelpText('after', example('medulla logs -n 20 --follow', 'medulla logs --slot all --level warn --since 10m'))
    .action((_: unknown, own: Command) => {
      const options = own.opts<Options>()
      return run(() => logs(app, options, own.optsWithGlobals<Globals>()))
    })
}

async function logs(app: App, options: Options, globals: Globals): Promise<number> {
  const all = options.slot === 'all'
  const slot = all ? null : checkSlot(options.slot)
  const lines = wholeNumber('--lines', options.lines, 10_000)
  const which = { lines, ...since(options.since), ...level(options.level) }
  const link = await Link.open(app, globals)
  try {
    await untilInterrupt(async (signal) => {
      const follow = options.follow === true
      const log = follow ? followLogs(link, slot, which, signal) : link.client.logs(slot, { ...which, signal })
      for await (const line of log) logLine(app.term, line, all)
    })
  } finally {
    link.close()
  }
  return 0
}

/** `10m` is sent as a length of time: the robot subtracts it from its own clock, which may differ from the laptop's. */
function since(text: string | undefined): Pick<LogOptions, 'since' | 'ago'> {
  if (text === undefined) return {}
  const [, count, unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  if (count !== undefined) return { ago: Number(count) * (UNITS[unit] ?? 0) }
  const time = /^\d{4}-\d\d-\d\d/.test(text) ? Date.parse(text) : Number.NaN
  if (!Number.isNaN(time)) return { since: new Date(time).toISOString() }
  const expected = 'expected 30s, 10m, 2h, 1d or a time like 2026-11-27T14:00:00Z'
  throw new Refusal('usage', `--since: ${expected}, got ${JSON.stringify(text)}`)
}

function level(text: string | undefined): Pick<LogOptions, 'level'> {
  if (text === undefined) return {}
  const known = LOG_LEVELS.find((each) => each === text)
  if (known !== undefined) return { level: known }
  throw new Refusal('usage', `--level: expected ${LOG_LEVELS.join(', ')}, got ${JSON.stringify(text)}`)
}

export function wholeNumber(option: string, text: string, max: number): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value <= max) return value
  throw new Refusal('usage', `${option}: expected a whole number from 0 to ${max}, got ${JSON.stringify(text)}`)
}
