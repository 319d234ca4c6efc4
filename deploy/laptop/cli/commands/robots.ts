import type { Command } from 'commander'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { overview } from '../overview.ts'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'The robots that this laptop knows, their addresses and what they run; * marks the robot of commands without -d.',
    )
    .addHelpText('after', example('medulla robots', 'medulla use arm', 'medulla forget sim'))
    .action((_: unknown, own: Command) => run(() => overview(app, own.optsWithGlobals<Globals>().key)))
}
