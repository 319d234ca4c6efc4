import type { Command } from 'commander'
import { readRobots, writeRobots } from '../../config.ts'
import { type App, example, type Runner } from '../app.ts'
import { checkKnown } from '../robot.ts'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Chooses the robot for commands without -d. For one terminal only: export MEDULLA_DEVICE=NAME. -d overrides both.',
    )
    .argument('<name>', 'a robot of `medulla robots`')
    .addHelpText('after', example('medulla use arm', 'medulla status'))
    .action((name: string) => run(() => use(app, name)))
}

async function use(app: App, name: string): Promise<number> {
  const known = readRobots(app.dir)
  const { address } = checkKnown(known, name)
  known.default = name
  await writeRobots(app.dir, known)
  app.term.event({ event: 'using', name, address })
  app.term.line(`commands without -d mean ${name} at ${address} now`)
  const { MEDULLA_DEVICE: set } = app.env
  if (set && set !== name) app.term.note(`in this terminal MEDULLA_DEVICE is still ${set}: unset MEDULLA_DEVICE`)
  app.term.next('medulla status')
  return 0
}
