import { stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { Command } from 'commander'
import { DEFAULT_SLOT, type Phase } from '../../../shared/api.ts'
import { Refusal } from '../../../shared/errors.ts'
import type { RobotClient } from '../../client.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { shellWord } from '../clean.ts'
import { Delegation } from '../delegation.ts'
import { EXIT } from '../exit.ts'
import { untilInterrupt } from '../interrupt.ts'
import { isLost, Link } from '../link.ts'
import { isBundle, openWorkshop } from '../program.ts'
import { checkSlot, whatTheRobotDoes } from '../pushing.ts'
import { followSwap, showResult } from '../swap.ts'
import { typesOption } from '../typecheck.ts'

interface Options {
  slot?: string
  stop?: true
  types?: string
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Pushes a program, pushes it again on every save of one of its files, and follows its log in between. If a build ' +
        'fails, or the robot refuses or rolls back a push, the previous program keeps running. Saves during a hold, or ' +
        'while the robot does not answer, are pushed afterwards. Ctrl-C ends the watching and leaves the program running.',
    )
    .argument('[path]', 'folder or source file', '.')
    .option('--slot <slot>', 'which slot (default: main)')
    .option('--stop', 'Ctrl-C also stops the program; its outputs go to their safe levels')
    .option('--types <how>', 'check types beside the build, where TypeScript is installed: warn, off, error', 'warn')
    .addHelpText('after', example('medulla watch', 'medulla watch robots/blink/v1 -d sim --stop'))
    .action((path: string, _: unknown, own: Command) => {
      const options = own.opts<Options>()
      return run(() => watch(app, path, options, own.optsWithGlobals<Globals>()))
    })
}

async function watch(app: App, path: string, options: Options, globals: Globals): Promise<number> {
  const slot = checkSlot(options.slot)
  const types = typesOption(options.types)
  if (await isBundle(path)) {
    throw new Refusal('usage', `${path} is a bundle: there is nothing to build`, `medulla push ${shellWord(path)}`)
  }
  const [{ Saves }, { Watching }] = await Promise.all([import('../saves.ts'), import('../watching.ts')])
  const whole = resolve(path)
  const folder = (await stat(whole)).isDirectory() ? whole : dirname(whole)
  const link = await Link.open(app, globals)
  const { robot } = link
  const abort = new AbortController()
  // a robot that does not answer is waited for, so that the build ends with a counter that it takes
  const range = async (program: string) => {
    for (;;) {
      try {
        return await link.client.counter(program)
      } catch (error) {
        if (!isLost(error) || abort.signal.aborted) throw error
        await link.back(error, abort.signal)
      }
    }
  }
  const delegation = await Delegation.open(app, link, slot, globals)
  const signing = delegation === null ? {} : { signer: () => delegation.signer() }
  const workshop = await openWorkshop(app, path, [robot], { key: globals.key, range, ...signing })
  const saves = await Saves.open(folder)
  const watching = new Watching({ app, link, slot, folder, types, workshop, saves, delegation }, abort.signal)
  try {
    const end = options.stop ? 'stops the program' : 'leaves the program running'
    app.term.event({ event: 'watching', path, robot: robot.name, slot })
    app.term.note(`watching ${path} for ${robot.name}/${slot}; Ctrl-C ${end}`)
    await untilInterrupt((signal) => Promise.race([watching.run(), once(signal)]))
    abort.abort()
    return await leave(app, link.client, robot.name, slot, watching.phase, options.stop === true)
  } finally {
    abort.abort()
    watching.stop()
    await Promise.all([saves.close(), workshop.close()])
    link.close()
  }
}

const once = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))

async function leave(
  app: App,
  client: RobotClient,
  robot: string,
  slot: string,
  phase: Phase | null,
  stop: boolean,
): Promise<number> {
  const { term } = app
  if (stop) {
    const result = await followSwap(app, client.stop(slot))
    if (result === undefined) throw new Error('a stop that is waited for has a result')
    return showResult(app, result)
  }
  if (phase !== null) term.note(whatTheRobotDoes(phase, robot).message)
  else term.note(`not watching any more: ${robot}/${slot} keeps running`)
  term.hint(`medulla stop${slot === DEFAULT_SLOT ? '' : ` --slot ${slot}`}`)
  return EXIT.ok
}
