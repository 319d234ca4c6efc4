import { Command } from 'commander'
import { Refusal } from '../../../shared/errors.ts'
import { type App, example, type Runner } from '../app.ts'
import { SHELLS, script, type Words } from '../completions.ts'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Prints a script that completes commands, options and names of robots. Print it again after an update of medulla.',
    )
    .argument('<shell>', SHELLS.join(', '))
    .addHelpText(
      'after',
      example(
        'medulla completion bash >> ~/.bashrc',
        'medulla completion zsh > ~/.zfunc/_medulla    # a folder of $fpath',
        'medulla completion fish > ~/.config/fish/completions/medulla.fish',
      ),
    )
    .action((shell: string) => run(() => completion(app, shell)))
}

async function completion(app: App, name: string): Promise<number> {
  const shell = SHELLS.find((each) => each === name)
  if (shell === undefined) {
    const message = `expected ${SHELLS.join(', ')}, got ${JSON.stringify(name)}`
    throw new Refusal('usage', message, 'medulla completion bash')
  }
  app.term.raw(script(shell, await allWords(app)))
  return 0
}

/** Subcommands and options of every command, taken from the definitions that also make the help texts. */
async function allWords(app: App): Promise<Words[]> {
  return Promise.all(
    Object.entries(app.commands).map(async ([name, entry]) => {
      const command = new Command(name)
      ;(await entry.load()).define(command, app, async () => {})
      const all = [command, ...command.commands]
      return {
        name,
        summary: entry.summary,
        subcommands: command.commands.map((sub) => sub.name()),
        options: [...new Set(all.flatMap(({ options }) => options.map(({ long, short }) => long ?? short ?? '')))],
      }
    }),
  )
}
