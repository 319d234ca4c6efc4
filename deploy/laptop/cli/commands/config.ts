import type { Command } from 'commander'
import { CONFIG_NAME, type ConfigInfo } from '../../../shared/api.ts'
import { checkConfigValue } from '../../../shared/configvalue.ts'
import { Refusal } from '../../../shared/errors.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { withRobot } from '../robot.ts'
import { readSecret } from '../secret.ts'

export function define(command: Command, app: App, run: Runner): void {
  const globals = () => command.optsWithGlobals<Globals>()
  command
    .description(
      'Config values are texts that a robot keeps for its programs: addresses, names, passwords, tokens. This command lists ' +
        'their names, never a value. A program names the values that it needs (`config` in robot()), and is not started ' +
        'while one of these is not set. A value is sealed on this computer and only the robot can read it; no receipt and ' +
        'no log holds it.',
    )
    .helpCommand(false)
    .allowExcessArguments()
    .action((_: unknown, own: Command) => run(() => list(app, own.args, globals())))
    .addHelpText(
      'after',
      example(
        'medulla config',
        'medulla config set MQTT_URL',
        'medulla config set TOKEN < token.txt',
        'medulla config unset TOKEN',
      ),
    )
  command
    .command('set')
    .summary('ask for a value and set it')
    .description(
      'Sets a value. At a terminal the command asks for the value and does not show it; otherwise it reads stdin and drops ' +
        'a newline at the end. At most 4096 bytes of UTF-8. Programs see the value from their next start or swap.',
    )
    .argument('<name>', 'A-Z, then A-Z, 0-9 and _, as MQTT_URL')
    .allowExcessArguments()
    .addHelpText('after', example('medulla config set MQTT_URL', 'medulla config set TOKEN < token.txt'))
    .action((name: string, _: unknown, own: Command) => run(() => set(app, name, own.args.length, globals())))
  command
    .command('unset')
    .summary('remove a value')
    .description(
      'Removes a value. A running program keeps the value until it ends, and is not started again without it.',
    )
    .argument('<name>', 'as `medulla config` lists it')
    .allowExcessArguments(false)
    .addHelpText('after', example('medulla config unset TOKEN'))
    .action((name: string) => run(() => unset(app, name, globals())))
}

async function list(app: App, words: readonly string[], globals: Globals): Promise<number> {
  if (words.length > 0) {
    // the message must not repeat a word, which may be a value
    const message = 'expected set or unset, or nothing for a list of the names; a robot never shows a value'
    throw new Refusal('usage', message, 'medulla config   lists the names; or: medulla config --help')
  }
  const { values } = await withRobot(app, globals, (client) => client.config())
  for (const each of values) app.term.event({ event: 'config', ...each })
  if (values.length === 0) app.term.line('no config value is set, and no program needs one: medulla config set NAME')
  else app.term.table(['name', 'set (UTC)', 'by', 'needed by'], values.map(row))
  return 0
}

async function set(app: App, name: string, words: number, globals: Globals): Promise<number> {
  if (words > 1 || name.includes('=')) {
    // the hint must not repeat the value
    const [only = ''] = name.split('=', 1)
    throw new Refusal(
      'usage',
      'a value on the command line is refused: every process of this computer could read it there, and the shell keeps it in its history',
      CONFIG_NAME.test(only)
        ? `medulla config set ${only}   asks for the value; or: medulla config set ${only} < FILE`
        : 'medulla config set --help',
    )
  }
  checkName(name, 'set')
  const value = await readSecret(app.term, `value of ${name} (not shown): `)
  checkConfigValue(value)
  const info = await withRobot(app, globals, (client, robot) => {
    app.term.progress(`sealing ${name} to ${robot.name}`)
    return client.setConfig(name, value)
  })
  app.term.event({ event: 'config', ...info })
  app.term.line(`${name} is set; programs see it from their next start or swap`)
  hintAt(app, info, 'runs with what it was started with')
  return 0
}

async function unset(app: App, name: string, globals: Globals): Promise<number> {
  checkName(name, 'unset')
  const info = await withRobot(app, globals, (client) => client.unsetConfig(name))
  app.term.event({ event: 'config', ...info })
  app.term.line(`${name} is not set any more`)
  hintAt(app, info, 'keeps the value until it ends, and is not started again without it')
  return 0
}

function checkName(name: string, command: 'set' | 'unset'): void {
  if (CONFIG_NAME.test(name)) return
  const message = `expected a name of A-Z, 0-9 and _, like MQTT_URL, got ${JSON.stringify(name)}`
  throw new Refusal('usage', message, `medulla config ${command} --help`)
}

/** For each program that needs the value: when the change takes effect there, and the next command. */
function hintAt(app: App, { time, uses }: ConfigInfo, running: string): void {
  for (const { slot, program, version, runs } of uses) {
    const where = slot === 'main' ? '' : ` --slot ${slot}`
    if (runs) {
      const how = `push over it, or: medulla stop${where}   then   medulla start${where}`
      app.term.hint(`${program} ${version} in slot ${slot} ${running}: ${how}`)
    } else if (time !== null) app.term.hint(`medulla start${where}   starts ${program} ${version}`)
  }
}

function row({ name, time, by, uses }: ConfigInfo): string[] {
  const needed = uses.map(({ slot, program, version }) => `${program} ${version} (${slot})`)
  return [name, time === null ? 'not set' : time.slice(5, 19).replace('T', ' '), by ?? '', needed.join(', ')]
}
