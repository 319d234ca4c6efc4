import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { Refusal } from '../../../shared/errors.ts'
import { laterCertificate } from '../../opensession.ts'
import { renewCard } from '../../renewedcard.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { connectTo, findRobot, withRobot } from '../robot.ts'

/** How long the new endpoint of a robot may take to start. */
const RETURN_MS = 10_000

export function define(command: Command, app: App, run: Runner): void {
  const globals = () => command.optsWithGlobals<Globals>()
  command
    .description(
      'The keys of a robot, as this laptop knows them: its identity, which never changes, its channel key, and the age key to ' +
        'which bundles are sealed.',
    )
    .helpCommand(false)
    .action(() => run(() => show(app, globals())))
    .addHelpText('after', example('medulla keys', 'medulla keys rotate -d arm'))
  command
    .command('rotate')
    .summary('give the robot new keys for channel and bundles')
    .description(
      'The robot makes new channel and age keys, and ends its sessions; programs go on. Laptops that know the robot learn the ' +
        'new keys at their next connection, because the identity of the robot signs them. Only for owners.',
    )
    .addHelpText('after', example('medulla keys rotate', 'medulla keys rotate -d arm'))
    .action(() => run(() => rotate(app, globals())))
}

async function show(app: App, globals: Globals): Promise<number> {
  const { name, card } = await findRobot(app.dir, globals.device)
  const { id, noise, age, created } = card
  app.term.event({ event: 'keys', robot: name, id, noise, age, created })
  app.term.line(`identity  ${id}`)
  app.term.line(`channel   ${noise}`)
  app.term.line(`age       ${age}`)
  app.term.line(`since     ${created}`)
  return 0
}

/** Resolves when the robot answers with its new keys, at the latest after RETURN_MS: it may be slow, and has its keys. */
async function answers(app: App, name: string, key: string | undefined): Promise<void> {
  const until = performance.now() + RETURN_MS
  for (let left = RETURN_MS; left > 0; left = until - performance.now()) {
    try {
      const client = await connectTo(app, await findRobot(app.dir, name), key, left, false)
      return client.close()
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      await sleep(50)
    }
  }
}

async function rotate(app: App, globals: Globals): Promise<number> {
  const name = await withRobot(app, globals, async (client, robot) => {
    const card = await client.rotateKeys()
    // what the robot answers passed through its endpoint, which does not have the identity
    if ((await laterCertificate(card, robot.card)) === null) {
      const message = `the new certificate of ${robot.name} is not signed by its identity`
      throw new Refusal('bad-signature', message, 'find out who answers at its address: medulla doctor, on the robot')
    }
    await renewCard(app.dir, card)
    return robot.name
  })
  // its endpoint starts anew: what is typed next must find it
  await answers(app, name, globals.key)
  app.term.event({ event: 'rotated', robot: name })
  app.term.line(`${name} has new channel and age keys; its sessions end now, and its programs go on`)
  app.term.note('bundle files that were built before are not for these keys: build them again')
  app.term.next('medulla status')
  return 0
}
