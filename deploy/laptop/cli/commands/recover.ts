import type { Command } from 'commander'
import { Refusal } from '../../../shared/errors.ts'
import { RobotClient } from '../../client.ts'
import { keyPath, operator } from '../../config.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { showRecovery } from '../recoverytext.ts'
import { clientOptions, findRobot, withRobot } from '../robot.ts'
import { readSecret } from '../secret.ts'

interface Options {
  revoke: string[]
  name?: string
  new?: true
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Makes you an owner of a robot whose owners have lost their keys. Asks for the recovery key, or reads it from stdin. ' +
        'Revokes the keys that you name, uses the recovery key up, and shows the next one.\n' +
        'With --new, as an owner: replaces the recovery key, for a paper that was lost or seen by others.',
    )
    .option(
      '--revoke <who>',
      'a lost key: name of its operator or SHA256:…; may be given more than once',
      (who: string, before: string[]) => [...before, who],
      [],
    )
    .option('--name <name>', 'your name on this robot (default: that of your card)')
    .option('--new', 'as an owner: make another recovery key; the present one is not valid any more')
    .allowExcessArguments()
    .addHelpText(
      'after',
      example('medulla recover -d arm --revoke ann', 'medulla recover -d arm < key.txt', 'medulla recover --new'),
    )
    .action((_: unknown, own: Command) => {
      const [options, globals] = [own.opts<Options>(), own.optsWithGlobals<Globals>()]
      return run(() => {
        if (own.args.length > 0) {
          // without the words, which may be the key
          const message = 'a key on the command line is refused: every process of this computer could read it there'
          throw new Refusal('usage', message, 'medulla recover   asks for the key; or: medulla recover < FILE')
        }
        return options.new === true ? renew(app, globals) : recover(app, options, globals)
      })
    })
}

async function recover(app: App, options: Options, globals: Globals): Promise<number> {
  const { makeRecoveryKey, openRecoveryKey } = await import('../../../shared/recoverykey.ts')
  const robot = await findRobot(app.dir, globals.device)
  const { card } = await operator(app.dir, keyPath(app.dir, globals.key, app.env))
  const text = await readSecret(app.term, `recovery key of ${robot.name} (not shown): `)
  const key = await openRecoveryKey(text)
  const usual = await clientOptions(app, robot, globals.key)
  const session = { ...usual, noiseSecret: key.noiseSecret, cert: key.card, signer: async () => key.signer }
  const client = await RobotClient.connect(session).catch((error: unknown) => {
    throw error instanceof Refusal && error.code === 'unknown-operator' ? notKnown(robot.name, error) : error
  })
  const next = makeRecoveryKey()
  try {
    const wish = { card, name: options.name ?? null, revoke: options.revoke, next: next.publicKey }
    const { owner, revoked, operators } = await client.recover(wish)
    app.term.event({ event: 'recovered', robot: robot.name, owner, revoked, operators })
    app.term.line(`${owner.name} is owner of ${robot.name} now: ${owner.fingerprint}`)
    for (const { fingerprint, name } of revoked) app.term.line(`revoked: ${name ?? 'a key'} ${fingerprint}`)
    const others = operators.filter(({ fingerprint }) => fingerprint !== owner.fingerprint)
    if (others.length > 0) {
      app.term.line('These keys may still use the robot; revoke those that are lost:')
      app.term.table(
        ['name', 'role', 'key'],
        others.map(({ name, role, fingerprint }) => [name, role, fingerprint]),
      )
    }
    showRecovery(app, next.text, robot.name)
    app.term.next(...(others.length > 0 ? ['medulla operators revoke WHO'] : []), 'medulla keys rotate')
    return 0
  } finally {
    client.close()
  }
}

function notKnown(robot: string, cause: Refusal): Refusal {
  return new Refusal(
    'unknown-operator',
    `${robot} did not accept this recovery key: it was used or replaced, or it belongs to another robot`,
    'type the newest recovery key of this robot; an owner makes another one: medulla recover --new',
    { cause },
  )
}

/** Makes the key here: the robot gets its public half only. */
export async function renew(app: App, globals: Globals): Promise<number> {
  const { makeRecoveryKey } = await import('../../../shared/recoverykey.ts')
  const { text, publicKey } = makeRecoveryKey()
  const name = await withRobot(app, globals, async (client, robot) => {
    await client.setRecovery(publicKey)
    return robot.name
  })
  showRecovery(app, text, name)
  return 0
}
