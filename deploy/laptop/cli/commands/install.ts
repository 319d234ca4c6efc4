import { hostname } from 'node:os'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { DEFAULT_PORT } from '../../../shared/api.ts'
import type { Finding } from '../../../shared/doctor.ts'
import { type App, example, type Runner } from '../app.ts'
import { EXIT } from '../exit.ts'
import { carryOut, type Installed } from '../installing.ts'
import { showRecovery } from '../recoverytext.ts'
import { answer, reload, start, UNIT } from '../systemd.ts'
import { installedVersion } from '../version.ts'

interface Options {
  operator?: string
  name?: string
  board?: string
  yes?: true
  start: boolean
  root?: string
  fromPackage?: true
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'On the robot, as root: makes this computer a robot that starts with it. Checks the computer as medulla doctor does,\n' +
        'writes the service, the udev rules and a board file, and starts the service. Changes of config.txt and cmdline.txt are\n' +
        'shown first, and written when you agree. What is there already stays: a second run changes nothing.',
    )
    .option('--operator <key>', 'an owner, who may push to this robot: a card, a public key file, or the key itself')
    .option('--name <name>', "the owner's name on this robot (default: that of the card or key)")
    .option('--board <file>', 'board file (default: the one that is there, or one without handles for this model)')
    .option('--yes', 'write all changes without asking')
    .option('--no-start', 'do not start the service')
    .option('--root <dir>', 'install into this folder, as for an image: starts nothing, needs no root')
    .option('--from-package', 'called by a package: asks nothing, changes nothing about the start of the computer')
    .addHelpText(
      'after',
      example(
        'sudo medulla install',
        'sudo medulla install --operator me.json --board board.json --yes',
        'medulla install --root image/ --operator me.json',
      ),
    )
    .action((options: Options) => run(() => install(app, options)))
}

async function install(app: App, options: Options): Promise<number> {
  const { term } = app
  const args = ['--root', resolve(options.root ?? '/')]
  if (options.operator !== undefined)
    args.push('--card', isKey(options.operator) ? options.operator : resolve(options.operator))
  if (options.name !== undefined) args.push('--name', options.name)
  if (options.board !== undefined) args.push('--board', resolve(options.board))
  const silent = options.fromPackage === true
  if (silent) args.push('--from-package')
  term.progress('checking this computer')
  const done = await carryOut(app, 'install', args, { yes: options.yes === true, silent })
  const { plan, applied, skipped } = done
  findings(app, done)
  for (const note of plan.notes) term.note(note)
  const boots = applied.some(({ path }) => path.startsWith('/boot/') || path.includes('system.conf.d'))
  const starts = plan.systemd && options.start
  try {
    if (starts) await begin(app, done, silent)
  } finally {
    // Also where the service does not start: nothing shows the text again.
    if (done.recovery !== undefined) showRecovery(app, done.recovery)
  }
  if (!starts && options.root !== undefined) term.line(`nothing was started: ${plan.root} is not the system that runs`)
  else if (!starts && plan.systemd) term.line(`the service was not started: sudo systemctl start ${UNIT}`)
  term.event({ event: 'installed', root: plan.root, applied: applied.length, skipped, reboot: boots, started: starts })
  if (skipped.length > 0) term.hint('sudo medulla install shows what is left to write, and asks')
  if (boots) term.hint('sudo reboot, so that the changes of the boot files take effect')
  if (plan.operators === 0 && options.operator === undefined && options.root === undefined && !silent) {
    term.hint(
      `nobody may push yet. For a code: sudo medulla pair --allow; then on the laptop: medulla pair ${hostname()}.local`,
    )
  } else if (starts && !silent)
    term.hint(`for a code: sudo medulla pair --allow; then on the laptop: medulla pair ${hostname()}.local`)
  return EXIT.ok
}

const isKey = (text: string): boolean => /^(sk-)?ssh-/.test(text)

/** Starts the service, or starts it again when its unit or the package has changed, and waits until the robot answers. */
async function begin({ term }: App, { applied }: Installed, isPackage: boolean): Promise<void> {
  if (applied.length > 0) reload()
  const isChanged = applied.some(({ path }) => path.includes('medulla.s') || path.endsWith('board.json'))
  term.progress('starting the service')
  start(isChanged || isPackage ? 'restart' : 'start')
  term.progress('waiting for the robot')
  let robot = await answer()
  if (robot.version !== installedVersion()) {
    start('restart')
    robot = await answer()
  }
  term.event({ event: 'answers', name: robot.name, id: robot.id, version: robot.version, port: DEFAULT_PORT })
  term.line(`${term.paint('green', robot.name)} answers on port ${DEFAULT_PORT}: ${robot.id}, Medulla ${robot.version}`)
}

/** What the doctor found and this installation did not mend. */
function findings({ term }: App, { plan: { findings: all, steps } }: Installed): void {
  const mended = new Set(steps.filter(({ change }) => change !== 'keep').flatMap(({ about }) => about))
  const left = all.filter(
    ({ about, severity }) => severity !== 'ok' && !mended.has(about) && !['service', 'home'].includes(about),
  )
  for (const finding of left)
    term.note(`${finding.severity}: ${finding.about}: ${finding.found}; ${firstStep(finding)}`)
}

function firstStep({ fix: [first] }: Finding): string {
  if (first === undefined) return 'medulla doctor'
  return 'run' in first ? first.run : 'do' in first ? first.do : `write ${first.write} in ${first.to}`
}
