#!/usr/bin/env node
/** The laptop's command line. Invariant: only what the given command needs is loaded; a push has 60 ms until its first byte. */
import { readFileSync } from 'node:fs'
import { Command, CommanderError } from 'commander'
import { Refusal } from '../errors.ts'
import { type App, example, type Globals } from './app.ts'
import { COMMANDS, isCommand } from './commands.ts'
import { configDir } from './config.ts'
import { EXIT, EXIT_MEANING, type ExitName, exitForCode } from './exit.ts'
import { PACKAGE } from './paths.ts'
import { finish, Term } from './term.ts'

const VALUE_OPTIONS = ['-d', '--device', '--key']

/** The first word that is neither an option nor the value of one. */
function commandWord(args: readonly string[]): string | undefined {
  for (let at = 0; at < args.length; at++) {
    const word = args[at] ?? ''
    if (VALUE_OPTIONS.includes(word)) at++
    else if (!word.startsWith('-')) return word
    else if (word === '--') return undefined
  }
  return undefined
}

async function main(args: string[]): Promise<number> {
  const before = args.includes('--') ? args.slice(0, args.indexOf('--')) : args
  const term = new Term({
    json: before.includes('--json'),
    stdout: process.stdout,
    stderr: process.stderr,
    env: process.env,
  })
  const app: App = { term, env: process.env, dir: configDir() }
  let exit: number = EXIT.ok
  try {
    const program = makeProgram(app)
    if (!isCommand(commandWord(args))) program.version(version(), '-V, --version')
    const first = commandWord(args)
    const word = first === 'help' ? commandWord(args.slice(args.indexOf('help') + 1)) : first
    for (const [name, entry] of Object.entries(COMMANDS)) {
      if (isCommand(word) && name !== word) continue
      const command = program.command(name).summary(entry.summary).description(entry.summary)
      if (name !== word) continue
      const module = await entry.load()
      module.define(command, app, async (action) => {
        exit = await action()
      })
    }
    if (first === undefined) {
      program.action(async () => {
        exit = await (await import('./overview.ts')).overview(app, program.opts<Globals>().key)
      })
    } else if (!isCommand(first) && first !== 'help') {
      throw new Refusal('usage', `unknown command ${JSON.stringify(first)}`, nearestHint(first))
    }
    await program.parseAsync(args, { from: 'user' })
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT.ok
    if (process.env.MEDULLA_DEBUG && error instanceof Error) term.note(error.stack ?? '')
    term.failure(asRefusal(error, commandWord(args)))
    return exitForCode(error instanceof Refusal ? error.code : error instanceof CommanderError ? 'usage' : 'internal')
  }
  return exit
}

function makeProgram(app: App): Command {
  const codes = (Object.keys(EXIT) as ExitName[]).map(
    (name) => `  ${String(EXIT[name]).padEnd(4)} ${EXIT_MEANING[name]}`,
  )
  return new Command('medulla')
    .description('Push robot programs over an encrypted session and swap them while they run.')
    .option('-d, --device <robot>', 'a name, an address (host or host:port) or sim; default: the only known robot')
    .option('--json', 'NDJSON on stdout, everything else on stderr')
    .option('--key <file>', 'the ed25519 key that signs (default: ~/.ssh/id_ed25519, or the one made by keygen)')
    .helpCommand(false)
    .exitOverride()
    .configureHelp({ showGlobalOptions: true, helpWidth: 100 })
    .configureOutput({ writeOut: (text) => app.term.raw(text), outputError: () => {}, writeErr: () => {} })
    .addHelpText(
      'after',
      `\nExit codes:\n${codes.join('\n')}\n${example('medulla sim', 'medulla push robots/blink/v1 -d sim')}`,
    )
}

function asRefusal(error: unknown, command: string | undefined): unknown {
  if (!(error instanceof CommanderError)) return error
  const message = error.message.replace(/^error: /, '').replace(/\n\(Did you mean (.*)\?\)$/, '; did you mean $1?')
  return new Refusal('usage', message, `medulla ${isCommand(command) ? `${command} ` : ''}--help`)
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

function version(): string {
  // from dist/deploy/cli
  const text = readFileSync(PACKAGE, 'utf8')
  return String((JSON.parse(text) as { version?: unknown }).version)
}

finish(await main(process.argv.slice(2)))
