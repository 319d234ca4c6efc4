import type { Command } from 'commander'
import { readRobots, writePsk, writeRobots } from '../../config.ts'
import { type App, example, type Runner } from '../app.ts'
import { checkKnown } from '../robot.ts'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Removes a robot from the list of this laptop. The robot is not contacted, and still accepts this laptop; the files of a ' +
        'simulated robot stay.',
    )
    .argument('<name>', 'a robot of `medulla robots`')
    .addHelpText('after', example('medulla forget sim', 'medulla robots'))
    .action((name: string) => run(() => forget(app, name)))
}

async function forget(app: App, name: string): Promise<number> {
  const known = readRobots(app.dir)
  const { address } = checkKnown(known, name)
  delete known.robots[name]
  if (known.default === name) delete known.default
  await writeRobots(app.dir, known)
  await writePsk(app.dir, name, null)
  const left = Object.keys(known.robots)
  app.term.event({ event: 'forgotten', name, address })
  app.term.line(`${name} at ${address} is forgotten; known: ${left.join(', ') || 'none'}`)
  if (app.term.isRead)
    app.term.note(`${name} still lets this laptop in, until an owner removes it: medulla operators remove`)
  app.term.next(left.length > 1 && known.default === undefined ? `medulla use ${left[0]}` : 'medulla robots')
  return 0
}
