import type { Command } from 'commander'
import type { PinChange } from '../../../shared/api.ts'
import { Refusal } from '../../../shared/errors.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { untilInterrupt } from '../interrupt.ts'
import { withRobot } from '../robot.ts'

interface Options {
  follow?: true
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Values of the robot’s handles: levels 0 and 1, duties 0 to 1, angles in degrees. One name prints the value alone.',
    )
    .argument('[name...]', 'which handles (default: all that have a value)')
    .option('-f, --follow', 'print each change until Ctrl-C')
    .addHelpText('after', example('medulla get', 'medulla get button', 'medulla get button led --follow'))
    .action((names: string[], options: Options, own: Command) =>
      run(() => get(app, names, options, own.optsWithGlobals<Globals>())),
    )
}

async function get(app: App, names: string[], options: Options, globals: Globals): Promise<number> {
  const { term } = app
  await withRobot(app, globals, async (client) => {
    const all: PinChange[] = []
    for await (const pin of client.pins()) all.push(pin)
    const unknown = names.find((name) => !all.some((pin) => pin.name === name))
    if (unknown !== undefined) {
      const known = all.map(({ name }) => name).join(', ') || 'none'
      throw new Refusal('missing-handle', `no handle ${unknown} has a value; handles with a value: ${known}`)
    }
    if (options.follow) {
      await untilInterrupt(async (signal) => {
        const which = names.length === 0 ? {} : { names }
        for await (const pin of client.pins({ ...which, follow: true, signal })) {
          term.event({ event: 'pin', ...pin })
          term.line(names.length === 1 ? number(pin.value) : `${pin.name} ${number(pin.value)}`)
        }
      })
      return
    }
    const shown = names.length === 0 ? all : names.flatMap((name) => all.filter((pin) => pin.name === name))
    for (const pin of shown) term.event({ event: 'pin', ...pin })
    const [first] = shown
    if (names.length === 1 && first !== undefined) term.line(number(first.value))
    else term.table(['handle', 'kind', 'value', 'slot'], shown.map((pin) => [pin.name, pin.kind, number(pin.value), pin.slot ?? ''])) // biome-ignore format: one row
  })
  return 0
}

/** Rounded to 7 digits: 0.30000000000000004 is shown as 0.3. */
export const number = (value: number): string => String(Number(value.toPrecision(7)))
