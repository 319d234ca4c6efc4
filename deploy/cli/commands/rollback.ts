import type { Command } from 'commander'
import type { Order, Receipt } from '../../api.ts'
import type { RobotClient } from '../../client.ts'
import { Refusal } from '../../errors.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { keyPath, signer } from '../config.ts'
import { checkSlot } from '../pushing.ts'
import { withRobot } from '../robot.ts'
import { followSwap, showResult } from '../swap.ts'

interface Options {
  slot?: string
  to?: string
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Goes back to the program that ran before, with the state migrated down. It is an order that you sign: it names the ' +
        'robot, the release and the newest receipt that you saw, so nobody can use it a second time.',
    )
    .option('--slot <slot>', 'which slot (default: main)')
    .option('--to <digest>', 'an earlier release, by its digest (see medulla receipts --json)')
    .addHelpText('after', example('medulla rollback', 'medulla rollback --slot arm'))
    .action((_: unknown, own: Command) => {
      const options = own.opts<Options>()
      return run(() => rollback(app, options, own.optsWithGlobals<Globals>()))
    })
}

async function rollback(app: App, options: Options, globals: Globals): Promise<number> {
  const slot = checkSlot(options.slot)
  if (options.to !== undefined && !/^sha256:[0-9a-f]{64}$/.test(options.to)) {
    throw new Refusal('usage', `expected a digest like sha256:… (64 hex digits), got ${JSON.stringify(options.to)}`)
  }
  const result = await withRobot(app, globals, async (client, robot) => {
    const { head, slots } = await client.status()
    const now = slots.find((each) => each.slot === slot)
    if (now?.program === undefined) throw new Refusal('not-running', `nothing runs in slot ${slot}`, 'medulla status')
    const target = options.to ?? now.previous
    if (target === undefined) {
      throw new Refusal('nothing-to-roll-back', `slot ${slot} has no release before ${now.program} ${now.version}`)
    }
    const program = (await programOf(client, target)) ?? now.program
    const { encodeJson } = await import('../../bundle/strict.ts')
    const { toBase64 } = await import('../../bundle/sshsig.ts')
    const order: Order = {
      format: 'medulla-order/1',
      order: 'rollback',
      robot: robot.card.id,
      slot,
      program,
      target,
      head: head.digest,
    }
    const bytes = encodeJson(order)
    const signing = await signer(keyPath(app.dir, globals.key, app.env))
    const sig = toBase64(await signing.sign('order@medulla', bytes))
    return followSwap(app, client.rollback(slot, { order: Buffer.from(bytes).toString(), sig }))
  })
  if (result === undefined) throw new Error('a rollback that is waited for has a result')
  return showResult(app, result)
}

/** The slot may have run another program before: its receipts say what a release was of. */
async function programOf(client: RobotClient, digest: string): Promise<string | undefined> {
  let program: string | undefined
  for await (const { receipt } of client.receipts(1000)) {
    const { to, program: name } = JSON.parse(receipt) as Receipt
    if (to === digest && name !== undefined) program = name
  }
  return program
}
