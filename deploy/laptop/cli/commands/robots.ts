import type { Command } from 'commander'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { overview } from '../overview.ts'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'The robots that this laptop knows: address, model, version, what they run; * marks the robot of commands without -d. ' +
        'Then the robots that answer on the network (multicast DNS) and are not known. A robot that has another address ' +
        'now is found by its keys. MEDULLA_DISCOVERY=off sends nothing to the network.',
    )
    .addHelpText('after', example('medulla robots', 'medulla use arm', 'medulla forget sim'))
    .action((_: unknown, own: Command) => run(() => overview(app, own.optsWithGlobals<Globals>().key)))
}
