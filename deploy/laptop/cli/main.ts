#!/usr/bin/env node
/** The laptop's command line. It loads only what the given command needs: a push has 60 ms until its first byte. */
import { type Argument, Command, CommanderError, Help, Option } from 'commander'
import { hintOf, Refusal } from '../../shared/errors.ts'
import { configDir } from '../config.ts'
import { type App, example, type Globals } from './app.ts'
import { COMMANDS, GROUPS, isCommand } from './commands.ts'
import { EXIT, EXIT_MEANING, type ExitName, exitForCode } from './exit.ts'
import { wrap } from './layout.ts'
import { finish, Term } from './term.ts'
import { installedVersion } from './version.ts'

const VALUE_OPTIONS = ['-d', '--device', '--key']

/** The words that are neither an option nor the value of a global one. */
function wordsOf(args: readonly string[]): string[] {
  const words: string[] = []
  for (let at = 0; at < args.length; at++) {
    const word = args[at] ?? ''
    if (VALUE_OPTIONS.includes(word)) at++
    else if (!word.startsWith('-')) words.push(word)
    else if (word === '--') break
  }
  return words
}

const commandWord = (args: readonly string[]): string | undefined => wordsOf(args)[0]

/** The command whose help explains these arguments: `config set`; null: there is none. */
function commandPath(args: readonly string[], command: Command | null): string | null {
  if (command === null) return null
  const [, second] = wordsOf(args)
  const sub = command.commands.find((one) => one.name() === second)
  return sub === undefined ? command.name() : `${command.name()} ${sub.name()}`
}

/** Turns `help push` into `push --help`. */
function withoutHelp(given: readonly string[]): string[] {
  if (commandWord(given) !== 'help') return [...given]
  const at = given.indexOf('help')
  return [...given.slice(0, at), ...given.slice(at + 1), '--help']
}

async function main(typed: readonly string[]): Promise<number> {
  const args = withoutHelp(typed)
  const before = args.includes('--') ? args.slice(0, args.indexOf('--')) : args
  const term = new Term({
    json: before.includes('--json'),
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
  })
  const app: App = { term, env: process.env, dir: configDir(), commands: COMMANDS }
  let exit: number = EXIT.ok
  let given: Command | null = null
  try {
    const program = makeProgram(app)
    const word = commandWord(args)
    if (!isCommand(word)) program.version(installedVersion(), '-V, --version')
    if (word !== undefined && !isCommand(word)) {
      throw new Refusal('usage', `unknown command ${JSON.stringify(word)}`, nearestHint(word))
    }
    for (const [name, entry] of Object.entries(COMMANDS)) {
      if (isCommand(word) && name !== word) continue
      const command = program.command(name).summary(entry.summary).description(entry.summary)
      command.helpGroup(GROUPS[entry.group])
      if (name !== word) continue
      given = command
      const module = await entry.load()
      module.define(command, app, async (action) => {
        exit = await action()
      })
    }
    if (word === undefined) {
      program.action(async () => {
        exit = await (await import('./overview.ts')).overview(app, program.opts<Globals>().key)
      })
    }
    await program.parseAsync(args, { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT.ok
    if (process.env.MEDULLA_DEBUG && error instanceof Error) term.note(error.stack ?? '')
    const path = commandPath(args, given)
    term.failure(withNext(asRefusal(error, path), path))
    return exitForCode(error instanceof Refusal ? error.code : error instanceof CommanderError ? 'usage' : 'internal')
  }
  return exit
}

/** Width of help texts, also on a wider terminal: longer lines are hard to read. */
const HELP_WIDTH = 80

/** For help texts, in which commander shows defaults as JSON: a text without quotes, and no empty list. */
function withPlainDefault<T extends Option | Argument>(described: T): T {
  const { defaultValue } = described
  if (typeof defaultValue === 'string')
    return Object.assign(Object.create(described), { defaultValueDescription: defaultValue })
  if (Array.isArray(defaultValue) && defaultValue.length === 0)
    return Object.assign(Object.create(described), { defaultValue: undefined })
  return described
}

function makeProgram(app: App): Command {
  const codes = (Object.keys(EXIT) as ExitName[]).flatMap((name) =>
    wrap(`  ${String(EXIT[name]).padEnd(4)} ${EXIT_MEANING[name]}`, HELP_WIDTH, '     '),
  )
  const device = new Option(
    '-d, --device <robot>',
    'which robot: a name, HOST or HOST:PORT (default: `medulla use`); for push and build also several',
  ).argParser((name: string, before: string | undefined) => (before === undefined ? name : `${before},${name}`))
  return new Command('medulla')
    .description('Push robot programs over an encrypted session and swap them while they run.')
    .addOption(device.env('MEDULLA_DEVICE'))
    .option('--json', 'one JSON object per line on stdout, everything else on stderr')
    .option('--key <file>', 'the ed25519 key that signs (default: ~/.ssh/id_ed25519, or the one made by keygen)')
    .helpCommand(false)
    .hook('preAction', (_, command) => app.term.aimSlot(command.opts<{ slot?: string }>().slot))
    .exitOverride()
    .configureHelp({
      showGlobalOptions: true,
      helpWidth: Math.min(HELP_WIDTH, app.term.size.columns),
      // line breaks in a description are those of the source text
      commandDescription: (command) => command.description().replaceAll('\n', ' '),
      optionDescription: (option) => new Help().optionDescription(withPlainDefault(option)),
      argumentDescription: (argument) => new Help().argumentDescription(withPlainDefault(argument)),
    })
    .configureOutput({ writeOut: (text) => app.term.raw(text), outputError: () => {}, writeErr: () => {} })
    .addHelpText(
      'after',
      `\nExit codes:\n${codes.join('\n')}\n${example('medulla sim', 'medulla new blinky', 'medulla run blinky', 'medulla help push')}`,
    )
}

function asRefusal(error: unknown, path: string | null): unknown {
  if (!(error instanceof CommanderError)) return error
  const message = error.message.replace(/^error: /, '').replace(/\n\(Did you mean (.*)\?\)$/, '; did you mean $1?')
  return new Refusal('usage', message, helpOf(path))
}

const helpOf = (path: string | null): string => `medulla ${path === null ? '' : `${path} `}--help`

const DEBUG = 'run the command again with MEDULLA_DEBUG=1 to see where this comes from'

/** Adds a hint to a refusal that has none. */
function withNext(error: unknown, path: string | null): unknown {
  if (!(error instanceof Refusal) || error.hint !== undefined) return error
  const ofCommand =
    error.code === 'internal' ? DEBUG : error.code === 'usage' && path !== null ? helpOf(path) : undefined
  const next = ofCommand ?? hintOf(error)
  return next === undefined ? error : new Refusal(error.code, error.message, next, { cause: error })
}

function nearestHint(word: string): string {
  const near = Object.keys(COMMANDS)
    .map((name) => ({ name, far: name.startsWith(word) ? 0 : distance(name, word) }))
    .sort((a, b) => a.far - b.far)[0]
  return near !== undefined && near.far <= 2 ? `did you mean: medulla ${near.name}` : 'medulla --help'
}

/** Edits from one word to the other (Levenshtein). */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1))
    }
    row = next
  }
  return row[b.length] ?? 0
}

// commander would take the empty string for the name of a robot
if (process.env.MEDULLA_DEVICE === '') delete process.env.MEDULLA_DEVICE
finish(await main(process.argv.slice(2)))
