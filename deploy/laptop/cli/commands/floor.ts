import type { Command } from 'commander'
import { Refusal } from '../../../shared/errors.ts'
import { NAME_PATTERN } from '../../../shared/names.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { withRobot } from '../robot.ts'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'The floor of a program is the highest counter that was committed on the robot: the robot takes only releases above it. A ' +
        'counter is about a time in ms. This command shows which counters the robot takes now. An owner can reset the floor, ' +
        'for instance when a laptop with a wrong clock has raised it; then the robot takes older releases again, too.',
    )
    .argument('<program>', 'name of the program')
    .option('--reset', 'reset the floor: an order that you sign as an owner')
    .addHelpText('after', example('medulla floor blinky', 'medulla floor blinky --reset'))
    .action((program: string, { reset }: { reset?: true }, own: Command) =>
      run(() => floor(app, program, reset === true, own.optsWithGlobals<Globals>())),
    )
}

async function floor(app: App, program: string, reset: boolean, globals: Globals): Promise<number> {
  if (!NAME_PATTERN.test(program)) {
    throw new Refusal('usage', `expected a program name like line-follower, got ${JSON.stringify(program)}`)
  }
  const range = await withRobot(app, globals, (client) =>
    reset ? client.resetFloor(program) : client.counter(program),
  )
  app.term.event({ event: 'floor', program, ...range })
  const { least, most, now, synchronised } = range
  app.term.table(
    ['program', program],
    [
      ['floor', least === 1 ? 'none: any release is new' : about(least - 1)],
      ['highest', about(most)],
      ['clock', `${about(now)}${synchronised ? '' : ', not synchronised'}`],
    ],
  )
  return 0
}

/** A counter, and the time that it stands for when a builder took it from its clock. */
function about(counter: number): string {
  const time = new Date(counter)
  return Number.isNaN(time.getTime()) ? String(counter) : `${counter} (${time.toISOString().slice(0, 19)}Z)`
}
