import { readFile, stat } from 'node:fs/promises'
import { constants } from 'node:os'
import { dirname } from 'node:path'
import type { Command } from 'commander'
import { DEFAULT_PORT, type RuntimeReport } from '../../../shared/api.ts'
import { Refusal } from '../../../shared/errors.ts'
import type { RobotClient } from '../../client.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { EXIT } from '../exit.ts'
import { printable } from '../loglines.ts'
import { PACKAGE } from '../paths.ts'
import { buildRuntime, isBundle, readBundle } from '../program.ts'
import { followReplacement, runtimeName } from '../replacing.ts'
import { type Target, withRobot } from '../robot.ts'
import { spawnRuntime } from '../runtimebin.ts'

interface PushOptions {
  retry?: boolean
  restart?: boolean
}

const RESTART = 'end the programs and start them again, where they could not go on under the other runtime'

interface RunOptions {
  home: string
  host?: string
  port?: string
  name?: string
  board?: string
  minimal?: true
}

export function define(command: Command, app: App, run: Runner): void {
  const globals = () => command.optsWithGlobals<Globals>()
  command
    .description(
      "The runtime is the robot's side of medulla. This command shows which runtime a robot runs, and what it can go back to; " +
        '`push` replaces it over the network, as an owner, and `run` starts it on the robot itself.',
    )
    .helpCommand(false)
    .action(() => run(() => show(app, globals())))
    .addHelpText('after', example('medulla runtime', 'medulla runtime push -d arm', 'medulla runtime rollback'))
  command
    .command('push')
    .summary('replace the runtime of a robot')
    .description(
      'Replaces the runtime of a robot by that of a medulla package, which you sign as an owner. Programs keep running. The ' +
        'robot goes back by itself when the new runtime does not become healthy. Exit code 0 means that the new runtime has proved itself.',
    )
    .argument(
      '[package]',
      'folder, .tgz file or bundle file; or the version of this command line (default: its package)',
    )
    .option('--retry', 'push a runtime again that was undone before')
    .option('--restart', RESTART)
    .addHelpText('after', example('medulla runtime push', 'medulla runtime push medulla-0.2.0.tgz -d arm'))
    .action((path: string | undefined, options: PushOptions) => run(() => push(app, path, options, globals())))
  command
    .command('rollback')
    .summary('go back to the runtime before')
    .description('Goes back to the runtime before the present one: an order that you sign as an owner.')
    .option('--restart', RESTART)
    .addHelpText('after', example('medulla runtime rollback'))
    .action(({ restart = false }: { restart?: boolean }) => run(() => rollback(app, restart, globals())))
  command
    .command('run')
    .summary('on the robot: run the robot side in the foreground')
    .description('Runs the robot side in the foreground, on the robot itself; for a simulated robot see: medulla sim')
    .option('--home <dir>', 'identity, operators, programs and receipts', '/var/lib/medulla')
    .option('--host <host>', 'address to listen on (default: all)')
    .option('--port <port>', `TCP port (default: ${DEFAULT_PORT})`)
    .option('--name <name>', "the robot's name (default: the host's)")
    .option('--board <file>', 'board file (default: board.json in the home)')
    .option('--minimal', 'start no program and no runtime that was pushed: to push one that works')
    .addHelpText('after', example('medulla runtime run --home /var/lib/medulla --name arm'))
    .action((options: RunOptions) => run(() => foreground(app, options)))
}

async function show(app: App, globals: Globals): Promise<number> {
  const { term } = app
  const report = await withRobot(app, globals, (client) => reportOf(client))
  term.event({ event: 'runtime', ...report })
  const { previous, since, failed, minimal } = report
  term.table(
    ['runtime', runtimeName(report)],
    [
      ['state', report.confirmed ? 'healthy' : 'on trial: the robot goes back by itself if it fails'],
      ['since', since === null ? 'its installation' : utc(since)],
      ['installed', report.base],
      ['back to', previous === null ? 'nothing' : runtimeName(previous)],
      ...failed.map((each) => ['undone', `${runtimeName(each)}, ${utc(each.time)}: ${printable(each.reason)}`]),
    ],
  )
  if (minimal !== undefined) {
    term.line(term.paint('red', `MINIMAL MODE: no program is started, because ${printable(minimal.why)}`))
    term.line(term.aimed(printable(minimal.hint)))
  }
  return EXIT.ok
}

async function push(
  app: App,
  path: string | undefined,
  { retry = false, restart = false }: PushOptions,
  globals: Globals,
): Promise<number> {
  return withRobot(app, globals, async (client, robot) => {
    const { bytes, digest } = await bundleOf(app, path, client, robot, globals)
    app.term.progress(`uploading ${bytes.length} bytes to ${robot.name}`)
    const options = { retry, restart, ...(digest === undefined ? {} : { digest }) }
    return followReplacement(app, globals, robot, client.pushRuntime(bytes, options))
  })
}

/** A bundle file as it is; a package is signed now, for this robot. */
async function bundleOf(
  app: App,
  path: string | undefined,
  client: RobotClient,
  robot: Target,
  globals: Globals,
): Promise<{ bytes: Uint8Array; digest?: string }> {
  const from = await packageAt(path)
  if (await isBundle(from)) return readBundle(from)
  const { bytes, built } = await buildRuntime(app, from, robot, {
    key: globals.key,
    range: () => client.runtimeCounter(),
  })
  app.term.event({ event: 'built', ...built, bytes: bytes.length })
  return { bytes, digest: built.digest }
}

async function packageAt(path: string | undefined): Promise<string> {
  const own = dirname(PACKAGE)
  if (path === undefined) return own
  const isThere = await stat(path).then(
    () => true,
    () => false,
  )
  if (isThere) return path
  if (!/^\d+\.\d+\.\d+/.test(path)) throw new Refusal('usage', `no such file or folder: ${path}`)
  const { parseRuntimePackage } = await import('../../../shared/bundle/runtimepackage.ts')
  const { version } = parseRuntimePackage(await readFile(PACKAGE))
  if (path === version) return own
  const hint = `npm install -g medulla@${path}, then: medulla runtime push`
  throw new Refusal('usage', `this command line is medulla ${version}, and holds no runtime ${path}`, hint)
}

async function rollback(app: App, restart: boolean, globals: Globals): Promise<number> {
  return withRobot(app, globals, async (client, robot) => {
    const { digest, previous } = await reportOf(client)
    if (previous === null) {
      throw new Refusal('nothing-to-roll-back', `${robot.name} runs the installed runtime`, 'medulla runtime')
    }
    return followReplacement(app, globals, robot, client.rollbackRuntime(digest, previous.digest, restart))
  })
}

async function reportOf(client: RobotClient): Promise<RuntimeReport> {
  const { runtime, version } = await client.status()
  if (runtime !== undefined) return runtime
  const hint = 'install the new package on the robot, with apt or npm, as medulla was installed there'
  throw new Refusal('unsupported', `the robot runs medulla ${version}, which cannot replace itself`, hint)
}

const utc = (time: string): string => `${time.slice(0, 19).replace('T', ' ')} UTC`

async function foreground(app: App, options: RunOptions): Promise<number> {
  const args = ['--home', options.home]
  for (const name of ['host', 'port', 'name', 'board'] as const) {
    const value = options[name]
    if (value !== undefined) args.push(`--${name}`, value)
  }
  if (options.minimal) args.push('--minimal')
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
