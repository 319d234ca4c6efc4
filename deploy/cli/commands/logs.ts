import type { Command } from 'commander'
import { Refusal } from '../../errors.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { untilInterrupt } from '../interrupt.ts'
import { logLine } from '../loglines.ts'
import { checkSlot } from '../pushing.ts'
import { withRobot } from '../robot.ts'

interface Options {
  lines: string
  follow?: true
  slot?: string
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description('What a program printed and logged, and what the runtime says about it, oldest first.')
    .option('-n, --lines <count>', 'how many of the last lines', '100')
    .option('-f, --follow', 'go on with new ones until Ctrl-C')
    .option('--slot <slot>', 'which slot (default: main)')
    .addHelpText('after', example('medulla logs -n 20 --follow'))
    .action((_: unknown, own: Command) => {
      const options = own.opts<Options>()
      return run(() => logs(app, options, own.optsWithGlobals<Globals>()))
    })
}

async function logs(app: App, options: Options, globals: Globals): Promise<number> {
  const slot = checkSlot(options.slot)
  const lines = wholeNumber('--lines', options.lines, 10_000)
  await withRobot(app, globals, (client) =>
    untilInterrupt(async (signal) => {
      for await (const line of client.logs(slot, { lines, follow: options.follow === true, signal }))
        logLine(app.term, line)
    }),
  )
  return 0
}

export function wholeNumber(option: string, text: string, max: number): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value <= max) return value
  throw new Refusal('usage', `${option}: expected a whole number from 0 to ${max}, got ${JSON.stringify(text)}`)
}
