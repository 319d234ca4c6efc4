import { resolve } from 'node:path'
import type { Command } from 'commander'
import { Refusal } from '../../../shared/errors.ts'
import { type App, example, type Runner } from '../app.ts'
import { EXIT } from '../exit.ts'
import { carryOut, confirm } from '../installing.ts'
import { askRuntime } from '../runtimebin.ts'
import { reload, stop } from '../systemd.ts'

interface Options {
  purge?: true
  yes?: true
  root?: string
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'On the robot, as root: stops the service and removes what medulla install has made, its lines of config.txt and\n' +
        'cmdline.txt too, which are shown first. The home of the robot stays, so that it is the same robot when you install\n' +
        'again; so do the groups gpio, i2c, spi and pwm, which other software may use.',
    )
    .option('--purge', "remove the robot's home too: its identity, operators, programs and receipts")
    .option('--yes', 'change the boot files without asking, and with --purge remove the home without asking')
    .option('--root <dir>', 'uninstall from this folder, as for an image')
    .addHelpText('after', example('sudo medulla uninstall', 'sudo medulla uninstall --purge'))
    .action((options: Options) => run(() => uninstall(app, options)))
}

async function uninstall(app: App, options: Options): Promise<number> {
  const { term } = app
  const yes = options.yes === true
  const args = ['--root', resolve(options.root ?? '/')]
  // refusals come before anything is stopped
  const { systemd } = (await askRuntime(['uninstall', 'plan', ...args])) as { systemd: boolean }
  if (options.purge === true) {
    const question = 'Remove the identity of this robot? Laptops and bundles that know it are of no use to it then.'
    if (!yes && !(await confirm(app, question))) {
      throw new Refusal(
        'usage',
        '--purge was not confirmed; nothing was removed',
        'sudo medulla uninstall --purge --yes',
      )
    }
    args.push('--purge')
  }
  if (systemd) {
    term.progress('stopping the service')
    stop()
  }
  const { plan, applied, skipped } = await carryOut(app, 'uninstall', args, { yes })
  if (systemd && applied.length > 0) reload()
  for (const note of plan.notes) term.note(note)
  term.event({ event: 'uninstalled', root: plan.root, applied: applied.length, skipped })
  if (skipped.length > 0) term.hint('sudo medulla uninstall --yes takes these back too')
  return EXIT.ok
}
