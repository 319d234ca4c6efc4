import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { DoctorReport, Fix, Severity } from '../../../shared/doctor.ts'
import { Refusal } from '../../../shared/errors.ts'
import { type App, example, type Runner } from '../app.ts'
import { EXIT } from '../exit.ts'
import { carryOut } from '../installing.ts'
import { askRuntime } from '../runtimebin.ts'
import { reload } from '../systemd.ts'

interface Options {
  home: string
  board?: string
  fix?: true | string[]
  yes?: true
}

const LABEL = { ok: 'ok', warning: 'warning', problem: 'PROBLEM' } as const
const COLOR = { ok: 'green', warning: 'yellow', problem: 'red' } as const

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Run it on the robot itself: it checks the kernel, pins, buses, power, the confinement of programs and the board\n' +
        'file. It sends nothing to a pin or a bus, and changes nothing without --fix. Each problem comes with what to type\n' +
        'or to write.\n' +
        `Exit code 0 when there is no problem, ${EXIT.refused} otherwise. With sudo it checks what a runtime started by root can do.`,
    )
    .option('--home <dir>', "the runtime's home", '/var/lib/medulla')
    .option('--board <file>', 'board file (default: board.json in the home)')
    .option('--fix [findings...]', 'mend what medulla install can mend: these findings, by their names, or all')
    .option('--yes', 'with --fix: write changes of the boot files without asking')
    .addHelpText(
      'after',
      example(
        'sudo medulla doctor',
        'medulla doctor --board board.json',
        'medulla doctor --json',
        'sudo medulla doctor --fix i2c',
      ),
    )
    .action((options: Options) => run(() => (options.fix === undefined ? doctor(app, options) : fix(app, options))))
}

async function doctor(app: App, options: Options): Promise<number> {
  const args = ['doctor', '--home', options.home]
  if (options.board !== undefined) args.push('--board', options.board)
  app.term.progress('checking this computer')
  const report = (await askRuntime(args)) as DoctorReport
  const count = (severity: Severity) => report.findings.filter((finding) => finding.severity === severity).length
  const [problems, warnings] = [count('problem'), count('warning')]
  const { findings, ...about } = report
  for (const finding of findings) app.term.event({ event: 'finding', ...finding })
  app.term.event({ event: 'doctor', ...about, problems, warnings })
  show(app, report)
  app.term.line()
  app.term.line(
    problems + warnings === 0 ? 'All is well.' : `${plural(problems, 'problem')}, ${plural(warnings, 'warning')}.`,
  )
  return problems === 0 ? EXIT.ok : EXIT.refused
}

/** Carries out the steps of an installation that belong to findings; the service is not started or stopped. */
async function fix(app: App, options: Options): Promise<number> {
  const named = Array.isArray(options.fix) ? options.fix : null
  const board = options.board === undefined ? [] : ['--board', resolve(options.board)]
  app.term.progress('checking this computer')
  const report = (await askRuntime(['doctor', '--home', options.home, ...board])) as DoctorReport
  const known = new Set(report.findings.map(({ about }) => about))
  const unknown = named?.find((name) => !known.has(name))
  if (unknown !== undefined) {
    throw new Refusal('usage', `there is no finding ${JSON.stringify(unknown)}`, `one of ${[...known].join(', ')}`)
  }
  const wrong = report.findings.filter(({ severity }) => severity !== 'ok').map(({ about }) => about)
  const only = [...new Set(named ?? wrong)]
  const { applied, skipped, plan } = await carryOut(app, 'install', ['--only', only.join(','), ...board], {
    yes: options.yes === true,
  })
  if (plan.systemd && applied.length > 0) reload()
  const solved = new Set(plan.steps.flatMap(({ about }) => about))
  for (const { about, found, severity, fix: steps } of report.findings) {
    if (severity === 'ok' || !only.includes(about) || solved.has(about)) continue
    app.term.note(`${about}: ${found}; this is for you to mend:`)
    for (const step of steps) app.term.note(`  ${stepText(step)}`)
  }
  if (applied.some(({ path }) => path.startsWith('/boot/')))
    app.term.hint('sudo reboot, so that the changes take effect')
  return skipped.length === 0 ? EXIT.ok : EXIT.refused
}

function show({ term }: App, { host, machine, findings }: DoctorReport): void {
  term.line(`${term.paint('bold', host)}  ${machine}`)
  const width = Math.max(...findings.map(({ about }) => about.length))
  for (const { severity, about, found, fix } of findings) {
    const label = term.paint(COLOR[severity], LABEL[severity].padEnd(LABEL.problem.length))
    term.line(`${label}  ${about.padEnd(width)}  ${found}`)
    for (const step of fix) term.line(`${' '.repeat(LABEL.problem.length)}  ${' '.repeat(width)}    ${stepText(step)}`)
  }
}

function stepText(fix: Fix): string {
  if ('run' in fix) return `$ ${fix.run}`
  return 'do' in fix ? `do: ${fix.do}` : `write ${fix.write}  in ${fix.to}`
}

function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}
