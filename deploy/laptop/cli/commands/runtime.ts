import { constants } from 'node:os'
import type { Command } from 'commander'
import { DEFAULT_PORT } from '../../../shared/api.ts'
import { type App, example, type Runner } from '../app.ts'
import { EXIT } from '../exit.ts'
import { spawnRuntime } from '../runtimebin.ts'

interface Options {
  home: string
  host?: string
  port?: string
  name?: string
  board?: string
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description('Runs the robot side in the foreground, on the robot itself; for a simulated robot see: medulla sim')
    .option('--home <dir>', 'identity, operators, programs and receipts', '/var/lib/medulla')
    .option('--host <host>', 'address to listen on (default: all)')
    .option('--port <port>', `TCP port (default: ${DEFAULT_PORT})`)
    .option('--name <name>', "the robot's name (default: the host's)")
    .option('--board <file>', 'board file (default: board.json in the home)')
    .addHelpText('after', example('medulla runtime --home /var/lib/medulla --name arm'))
    .action((options: Options) => run(() => runtime(app, options)))
}

async function runtime(app: App, options: Options): Promise<number> {
  const args = ['--home', options.home]
  for (const name of ['host', 'port', 'name', 'board'] as const) {
    const value = options[name]
    if (value !== undefined) args.push(`--${name}`, value)
  }
  if (app.term.json) args.push('--json')
  const child = spawnRuntime(args, { stdio: 'inherit' })
  // a terminal sends Ctrl-C to both processes: this process waits until the runtime has shut down
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => child.kill('SIGTERM'))
  return new Promise<number>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (status, signal) =>
      resolve(status ?? (signal === null ? EXIT.internal : 128 + constants.signals[signal])),
    )
  })
}
