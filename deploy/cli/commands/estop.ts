import type { Command } from 'commander'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { withRobot } from '../robot.ts'
import { followSwap, showResult } from '../swap.ts'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Emergency stop: every program is frozen, every output goes to its safe level, then every program is ended. Nothing runs until it is released; the release starts nothing.',
    )
    .option('--release', 'end the emergency stop')
    .addHelpText('after', example('medulla estop', 'medulla estop --release', 'medulla start'))
    .action((options: { release?: boolean }, own: Command) =>
      run(() => estop(app, options.release === true, own.optsWithGlobals<Globals>())),
    )
}

async function estop(app: App, release: boolean, globals: Globals): Promise<number> {
  const result = await withRobot(app, globals, (client) => followSwap(app, release ? client.release() : client.estop()))
  if (result === undefined) throw new Error('an emergency stop that is waited for has a result')
  return showResult(app, result)
}
