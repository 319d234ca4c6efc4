import type { Command } from 'commander'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { checkSlot } from '../pushing.ts'
import { withRobot } from '../robot.ts'
import { followSwap, showResult } from '../swap.ts'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description('Starts the program of a slot that was stopped, from its last checkpoint.')
    .option('--slot <slot>', 'which slot (default: main)')
    .addHelpText('after', example('medulla start', 'medulla start --slot arm -d arm-1'))
    .action((options: { slot?: string }, own: Command) =>
      run(() => start(app, checkSlot(options.slot), own.optsWithGlobals<Globals>())),
    )
}

async function start(app: App, slot: string, globals: Globals): Promise<number> {
  const result = await withRobot(app, globals, (client) => followSwap(app, client.start(slot)))
  if (result === undefined) throw new Error('a start that is waited for has a result')
  return showResult(app, result)
}
