import type { Command } from 'commander'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { checkSlot } from '../pushing.ts'
import { withRobot } from '../robot.ts'
import { followSwap, showResult } from '../swap.ts'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description('Stops the program of a slot: it may finish its tick, then its outputs go to their safe levels.')
    .option('--slot <slot>', 'which slot (default: main)')
    .addHelpText('after', example('medulla stop', 'medulla stop --slot arm -d arm-1'))
    .action((options: { slot?: string }, own: Command) =>
      run(() => stop(app, checkSlot(options.slot), own.optsWithGlobals<Globals>())),
    )
}

async function stop(app: App, slot: string, globals: Globals): Promise<number> {
  const result = await withRobot(app, globals, (client) => followSwap(app, client.stop(slot)))
  if (result === undefined) throw new Error('a stop that is waited for has a result')
  const exit = showResult(app, result)
  if (exit === 0) app.term.next('medulla start')
  return exit
}
