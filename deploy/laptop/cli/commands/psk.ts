import type { Command } from 'commander'
import { Refusal } from '../../../shared/errors.ts'
import { PSK_TEXT, readPsk, writePsk } from '../../config.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { findRobot } from '../robot.ts'
import { readSecret } from '../secret.ts'

export function define(command: Command, app: App, run: Runner): void {
  const globals = () => command.optsWithGlobals<Globals>()
  command
    .description(
      'A pre-shared key is a secret of 32 bytes that a robot and its laptops have besides their own keys. A robot that has one ' +
        'takes no session without it. Put the same key on both: on the robot into endpoint/psk.key of its home, mode 0600, ' +
        'then restart the runtime; on each laptop with `medulla psk set`. Without a subcommand: says whether this laptop has ' +
        'a key for the robot.',
    )
    .helpCommand(false)
    .action(() => run(() => show(app, globals())))
    .addHelpText('after', example('openssl rand -hex 32 > psk.key', 'medulla psk set < psk.key', 'medulla psk unset'))
  command
    .command('set')
    .summary('ask for the key and keep it')
    .description(
      'Keeps the key for the robot on this laptop. At a terminal the command asks for the key and does not show it; otherwise ' +
        'it reads stdin. 64 hex digits, as `openssl rand -hex 32` prints them. The robot is not contacted.',
    )
    .allowExcessArguments()
    .addHelpText('after', example('medulla psk set', 'medulla psk set < psk.key'))
    .action((_: unknown, own: Command) => run(() => set(app, own.args.length, globals())))
  command
    .command('unset')
    .summary('remove the key from this laptop')
    .description('Removes the key of the robot from this laptop. The robot is not contacted, and keeps its key.')
    .addHelpText('after', example('medulla psk unset'))
    .action(() => run(() => unset(app, globals())))
}

async function show(app: App, globals: Globals): Promise<number> {
  const { name } = await findRobot(app.dir, globals.device)
  const isSet = readPsk(app.dir, name) !== undefined
  app.term.event({ event: 'psk', robot: name, set: isSet })
  app.term.line(
    isSet ? `${name}: sessions need the pre-shared key of this laptop` : `${name}: no pre-shared key is set`,
  )
  return 0
}

async function set(app: App, words: number, globals: Globals): Promise<number> {
  if (words > 0) {
    // without the words, which may be the key
    const message = 'a key on the command line is refused: every process of this computer could read it there'
    throw new Refusal('usage', message, 'medulla psk set   asks for the key; or: medulla psk set < FILE')
  }
  const { name } = await findRobot(app.dir, globals.device)
  const text = (await readSecret(app.term, `pre-shared key of ${name} (not shown): `)).trim().toLowerCase()
  if (!PSK_TEXT.test(text))
    throw new Refusal('usage', `expected 64 hex digits, got ${text.length} characters`, 'openssl rand -hex 32')
  await writePsk(app.dir, name, text)
  app.term.event({ event: 'psk', robot: name, set: true })
  app.term.line(
    `${name}: sessions now need the pre-shared key; the robot needs the same in endpoint/psk.key of its home`,
  )
  app.term.next('medulla status')
  return 0
}

async function unset(app: App, globals: Globals): Promise<number> {
  const { name } = await findRobot(app.dir, globals.device)
  const before = await writePsk(app.dir, name, null)
  app.term.event({ event: 'psk', robot: name, set: false })
  app.term.line(
    before ? `${name}: the pre-shared key is removed from this laptop` : `${name}: no pre-shared key was set`,
  )
  return 0
}
