import type { Command } from 'commander'
import { Refusal } from '../../../shared/errors.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { withRobot } from '../robot.ts'
import { number } from './get.ts'

const WORDS: Readonly<Record<string, number>> = { on: 1, off: 0 }

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Writes a handle that no program holds: to try the wiring, or to move something by hand. A handle that a program ' +
        'holds is refused: stop the program first. The value stays until the next write.',
    )
    .argument('<name>', 'an output, a PWM or a servo of the board')
    .argument('<value>', '0, 1, on or off; a duty from 0 to 1; degrees')
    .addHelpText('after', example('medulla set led on', 'medulla set left-motor 0.25', 'medulla set gripper -30'))
    .action((name: string, text: string, _: unknown, own: Command) =>
      run(() => set(app, name, text, own.optsWithGlobals<Globals>())),
    )
}

async function set(app: App, name: string, text: string, globals: Globals): Promise<number> {
  const value = WORDS[text] ?? Number(text)
  if (text.trim() === '' || !Number.isFinite(value)) {
    throw new Refusal('usage', `expected a number, on or off, got ${JSON.stringify(text)}`, 'medulla set --help')
  }
  if (!/^[A-Za-z][A-Za-z0-9_-]{0,39}$/.test(name))
    throw new Refusal('usage', `no handle is called ${JSON.stringify(name)}`)
  const pin = await withRobot(app, globals, (client) => client.set(name, value))
  app.term.event({ event: 'pin', ...pin })
  app.term.line(`${pin.name} is ${number(pin.value)}`)
  app.term.next(`medulla get ${pin.name}`, 'medulla pinout')
  return 0
}
