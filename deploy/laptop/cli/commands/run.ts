import type { Command } from 'commander'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { EXIT } from '../exit.ts'
import { followLogs } from '../followlogs.ts'
import { isLost, Link } from '../link.ts'
import { logLine } from '../loglines.ts'
import { type Pushed, type PushOptions, pushPath } from '../pushing.ts'
import { followSwap, type Result, showResult } from '../swap.ts'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Pushes a program and follows its log. Ctrl-C stops the program safely (outputs go to their safe levels);\n' +
        'a second Ctrl-C ends this command at once, and the program may keep running.',
    )
    .argument('[path]', 'folder, source file or bundle', '.')
    .option('--slot <slot>', 'which slot (default: main)')
    .option('--force', 'kill a running program that does not yield')
    .option('--retry', 'push a release again that was rolled back before')
    .option('--types <how>', 'check types beside the build, where TypeScript is installed: warn, off, error', 'warn')
    .addHelpText('after', example('medulla run', 'medulla run robots/button-counter -d sim'))
    .action((path: string, _: unknown, own: Command) => {
      const options = own.opts<PushOptions>()
      return run(() => runProgram(app, path, options, own.optsWithGlobals<Globals>()))
    })
}

/** How long the type check may take: long, because the command follows the log anyway. */
const PATIENCE_MS = 60_000

async function runProgram(app: App, path: string, options: PushOptions, globals: Globals): Promise<number> {
  const pushed = await pushPath(app, path, options, globals)
  const link = Link.of(app, globals, pushed.robot, pushed.client)
  try {
    if (pushed.result === undefined) throw new Error('a push that is waited for has a result')
    const exit = showResult(app, pushed.result)
    void pushed.checking?.warn(app, PATIENCE_MS)
    if (exit !== 0) return exit
    return await followThenStop(app, link, pushed)
  } finally {
    pushed.checking?.stop()
    link.close()
  }
}

async function followThenStop(app: App, link: Link, { robot, slot, result }: Pushed): Promise<number> {
  const abort = new AbortController()
  const leave = new AbortController()
  const left = new Promise<'left'>((resolve) => leave.signal.addEventListener('abort', () => resolve('left')))
  const onSignal = (): void => (abort.signal.aborted ? leave : abort).abort()
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  app.term.note(`following the log of ${robot.name}/${slot}; Ctrl-C stops the program`)
  const fence = result?.receipt?.fence ?? 0
  for await (const line of followLogs(link, slot, { lines: 100 }, abort.signal)) {
    if (line.fence >= fence) logLine(app.term, line)
  }
  app.term.note(`stopping ${robot.name}/${slot}; Ctrl-C again leaves it running`)
  const stopped = await Promise.race([stop(app, link, slot, leave.signal), left])
  if (stopped === 'left' || stopped === undefined) {
    app.term.note(`not waiting any longer for ${robot.name}/${slot} to stop`)
    app.term.hint(`medulla status -d ${robot.name}`)
    return EXIT.interrupted
  }
  return showResult(app, stopped)
}

/** Stops the program, also when the robot has to be reached again before. `signal` ends the waiting for a robot that is lost. */
async function stop(app: App, link: Link, slot: string, signal: AbortSignal): Promise<Result | undefined> {
  for (;;) {
    try {
      return await followSwap(app, link.client.stop(slot))
    } catch (error) {
      if (!isLost(error) || signal.aborted) throw error
      await link.back(error, signal)
    }
  }
}
