import type { Command } from 'commander'
import { DEFAULT_SLOT } from '../../../shared/api.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { type PushOptions, pushPath } from '../pushing.ts'
import { pushMany } from '../pushmany.ts'
import { showResult } from '../swap.ts'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Builds the program (unless it is a bundle), sends it, and follows the swap to its end. Exit code 0 means that the ' +
        'new program has taken over and passed its trial. If anything fails before that, the previous program keeps running. ' +
        'With several -d, one bundle is built for all of these robots, and they get it one after the other; the first that ' +
        'does not run it ends the push.',
    )
    .argument('[path]', 'folder, source file or bundle', '.')
    .option('--slot <slot>', 'which slot (default: main)')
    .option('--force', 'kill a running program that does not yield')
    .option('--retry', 'push a release again that was rolled back before')
    .option('--types <how>', 'check types beside the build, where TypeScript is installed: warn, off, error', 'warn')
    .option('--state-of <program>', 'take over the state of this program, which has another name')
    .option(
      '--builds <file>',
      'bring the statement of a builder, which `medulla rebuild --sign` wrote; may be given more than once',
      (file: string, before: string[] = []) => [...before, file],
    )
    .option('--detach', 'return when the robot has accepted the program, without waiting for the swap')
    .addHelpText(
      'after',
      example(
        'medulla push',
        'medulla push blinky -d sim',
        'medulla push blink.medulla --slot arm',
        'medulla push -d arm -d rover',
      ),
    )
    .action((path: string, _: unknown, own: Command) => {
      const options = own.opts<PushOptions>()
      const globals = own.optsWithGlobals<Globals>()
      const names = globals.device?.split(',') ?? []
      return run(() =>
        names.length > 1 ? pushMany(app, path, names, options, globals) : push(app, path, options, globals),
      )
    })
}

async function push(app: App, path: string, options: PushOptions, globals: Globals): Promise<number> {
  const { client, robot, slot, bundle, result, sameVersion, checking } = await pushPath(app, path, options, globals)
  client.close()
  const what = bundle.built === undefined ? path : `${bundle.built.program} ${bundle.built.version}`
  if (result !== undefined) {
    const over = sameVersion ? ', over another build of the same version' : ''
    app.term.line(`${what} to ${robot.name}/${slot}, ${bundle.bytes.length} bytes${over}`)
    const exit = showResult(app, result)
    await checking?.warn(app)
    if (exit === 0) app.term.next(`medulla logs -f${slot === DEFAULT_SLOT ? '' : ` --slot ${slot}`}`)
    return exit
  }
  await checking?.warn(app)
  app.term.event({ event: 'detached', slot })
  app.term.line(`${robot.name}/${slot} accepted ${what}`)
  app.term.note('not waiting for start, takeover, trial and commit; the push may still be undone')
  app.term.hint(`medulla status -d ${robot.name}`)
  return 0
}
