import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { Refusal } from '../../../shared/errors.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { withRobot } from '../robot.ts'
import { valueText } from '../statusview.ts'

const TAP_MS = 100
const WORDS: Readonly<Record<string, number | null>> = { on: 1, off: 0, release: null }

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Presses an input of a simulated robot, or changes what one of its chips senses. 0 or 1 is the level that the program ' +
        'then reads; it stays until `release` gives the line back to its pull. `tap` is the other level for a tenth of a second. ' +
        'The pokes of each chip are in robots/README.md; every chip has nack-next, bad-data and stuck-bus.',
    )
    .argument('<name>', 'an input, or a chip of the board')
    .argument('<value...>', 'for an input: 0, 1, tap or release; for a chip: WHAT VALUE, with the value as JSON')
    .addHelpText(
      'after',
      example(
        'medulla poke button tap',
        'medulla poke button 1',
        "medulla poke imu accel '[0, 0, 1]'",
        'medulla poke imu nack-next true',
      ),
    )
    .action((name: string, words: string[], _: unknown, own: Command) =>
      run(() => poke(app, name, words, own.optsWithGlobals<Globals>())),
    )
}

async function poke(app: App, name: string, words: readonly string[], globals: Globals): Promise<number> {
  const { term } = app
  if (words.length > 2) {
    const hint = `quote a value with spaces: medulla poke ${name} WHAT '[0, 0, 1]'`
    throw new Refusal('usage', `expected NAME VALUE or NAME WHAT VALUE, got ${words.length + 1} words`, hint)
  }
  const [first = '', second] = words
  const pin = await withRobot(app, globals, async (client) => {
    if (second !== undefined) return client.poke(name, first, json(second))
    if (first !== 'tap') return client.poke(name, null, Object.hasOwn(WORDS, first) ? WORDS[first] : json(first))
    let before: number | undefined
    for await (const each of client.pins({ names: [name] })) before = each.value
    await client.poke(name, null, before === 1 ? 0 : 1)
    await sleep(TAP_MS)
    return client.poke(name, null, null)
  })
  term.event({ event: 'poked', what: second === undefined ? null : first, ...pin })
  if (second !== undefined) term.line(`${name}: ${first} is ${second}`)
  else if (pin.value === undefined) term.line(`${name} is poked`)
  else
    term.line(
      first === 'tap' ? `${name} was tapped, and is ${valueText(pin.value)}` : `${name} is ${valueText(pin.value)}`,
    )
  term.next('medulla logs')
  return 0
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Refusal('usage', `expected 0, 1, tap, release or JSON, got ${JSON.stringify(text)}`)
  }
}
