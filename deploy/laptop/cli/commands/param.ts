import type { Command } from 'commander'
import type { ParamChange, ParamInfo } from '../../../shared/api.ts'
import { Refusal } from '../../../shared/errors.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { checkSlot } from '../pushing.ts'
import { withRobot } from '../robot.ts'

interface Options {
  slot?: string
  reset?: true
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Shows the parameters that a program declares, or changes them while the program runs. A command sets all of its ' +
        'values or none. Set values stay over pushes, crashes and restarts, until --reset.',
    )
    .argument('[name=value...]', 'parameters to set; names alone: parameters to show or reset')
    .option('--reset', 'back to the default of the program; without names: all parameters')
    .option('--slot <slot>', 'which slot (default: main)')
    .addHelpText('after', example('medulla param', 'medulla param kp=1.4 mode=fast', 'medulla param --reset kp'))
    .action((words: string[], options: Options, own: Command) =>
      run(() => param(app, words, options, own.optsWithGlobals<Globals>())),
    )
}

async function param(app: App, words: string[], options: Options, globals: Globals): Promise<number> {
  const slot = checkSlot(options.slot)
  const odd = words.find((word) => word.includes('=') !== words[0]?.includes('=') || word.startsWith('='))
  const setting = words[0]?.includes('=') === true
  if (odd !== undefined || (setting && options.reset)) {
    const got = JSON.stringify(odd ?? words[0])
    throw new Refusal('usage', `expected NAME=VALUE … or NAME …, got ${got} as well`, 'medulla param --help')
  }
  const names = words.map((word) => word.split('=', 1)[0] ?? '')
  const report = await withRobot(app, globals, async (client) => {
    const before = await client.params(slot)
    const change = setting ? { set: assignments(words, before.params) } : resetting(options, names)
    return change === null ? before : client.setParams(slot, change)
  })
  const unknown = names.find((name) => !report.params.some((each) => each.name === name))
  if (unknown !== undefined) {
    const known = report.params.map(({ name }) => name).join(', ') || 'none'
    throw new Refusal('bad-param', `${report.program} has no parameter ${unknown}; it has: ${known}`)
  }
  const shown = names.length === 0 ? report.params : report.params.filter(({ name }) => names.includes(name))
  app.term.event({ event: 'params', ...report, params: shown })
  if (report.params.length === 0) app.term.line(`${report.program} ${report.version} declares no parameters`)
  else app.term.table(['parameter', 'value', 'default', 'set', 'allowed'], shown.map(row))
  const [first] = report.params
  if (first !== undefined && words.length === 0) app.term.next(`medulla param ${first.name}=${first.default}`)
  return 0
}

const resetting = ({ reset }: Options, names: string[]): ParamChange | null =>
  reset === true ? { reset: names.length === 0 ? 'all' : names } : null

/**
 * Converts each value to the type of its parameter. A value that does not fit is sent as text: the robot refuses it and
 * says what is allowed.
 */
function assignments(words: readonly string[], known: readonly ParamInfo[]): Record<string, number | boolean | string> {
  const values = words.map((word): [string, number | boolean | string] => {
    const at = word.indexOf('=')
    const [name, text] = [word.slice(0, at), word.slice(at + 1)]
    const type = known.find((each) => each.name === name)?.type
    if (type === 'number' && text.trim() !== '' && Number.isFinite(Number(text))) return [name, Number(text)]
    if (type === 'boolean' && (text === 'true' || text === 'false')) return [name, text === 'true']
    return [name, text]
  })
  const twice = values.find(([name], i) => values.findIndex((other) => other[0] === name) !== i)
  if (twice !== undefined) throw new Refusal('usage', `${twice[0]} is given twice`)
  return Object.fromEntries(values)
}

function row(param: ParamInfo): string[] {
  const unit = param.unit === undefined ? '' : ` ${param.unit}`
  return [param.name, `${param.value}${unit}`, String(param.default), param.set ? 'yes' : 'no', allowed(param)]
}

function allowed({ type, min, max, step, choices }: ParamInfo): string {
  if (type === 'choice') return (choices ?? []).join(', ')
  if (type === 'boolean') return 'true, false'
  const steps = step === undefined ? '' : `, in steps of ${step}`
  if (min === undefined && max === undefined) return `any number${steps}`
  return `${min ?? '…'} to ${max ?? '…'}${steps}`
}
