import type { Command } from 'commander'
import type { PinChange } from '../../../shared/api.ts'
import type { BoardReport } from '../../../shared/board.ts'
import { Refusal } from '../../../shared/errors.ts'
import { readRobots } from '../../config.ts'
import { type App, example, type Globals, type Runner } from '../app.ts'
import { Feed } from '../feed.ts'
import { headerLines } from '../headerview.ts'
import { untilInterrupt } from '../interrupt.ts'
import { withRobot } from '../robot.ts'
import { askRuntime } from '../runtimebin.ts'
import { fullScreen, type Size } from '../screen.ts'
import { capped, valueText } from '../statusview.ts'
import type { Paint } from '../term.ts'
import { checkedBoard } from './board.ts'

interface Options {
  board?: string
  model?: string
  watch?: true
}

interface Header {
  /** null: the header of a model or of a board file, without a robot */
  robot: string | null
  board: BoardReport
  values: Readonly<Record<string, number>>
}

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'The 40-pin header: which pin is which line, what it can be, which handle is on it, and its value now.\n' +
        'Pin 1 is the one nearest the SD card, and even pins are at the edge of the board. If no robot answers, it\n' +
        'shows the bare header. + is power, - ground, ● a line in use, ○ a free line.',
    )
    .option('--board <file>', 'show the handles of a board file instead of a robot')
    .option('--model <model>', 'the bare header of a model: pi3, pi4, pi5, zero2w')
    .option('--watch', 'live values until q or Ctrl-C; number keys press inputs of a simulated robot')
    .addHelpText(
      'after',
      example('medulla pinout', 'medulla pinout -d arm --watch', 'medulla pinout --board board.json'),
    )
    .action((_: unknown, own: Command) => {
      const options = own.opts<Options>()
      const globals = own.optsWithGlobals<Globals>()
      return run(() => (options.watch === true ? watch(app, options, globals) : pinout(app, options, globals)))
    })
}

async function pinout(app: App, options: Options, globals: Globals): Promise<number> {
  show(app, await readHeader(app, options, globals))
  return 0
}

async function readHeader(app: App, { board, model }: Options, globals: Globals): Promise<Header> {
  if (board !== undefined && model !== undefined) throw new Refusal('usage', 'expected --board or --model, got both')
  if (board !== undefined) return { robot: null, board: (await checkedBoard(app, board)).board, values: {} }
  const bareHeader = async (of: string): Promise<Header> => {
    return { robot: null, board: (await askRuntime(['board', 'header', '--model', of])) as BoardReport, values: {} }
  }
  if (model !== undefined) return bareHeader(model)
  const known = Object.keys(readRobots(app.dir).robots)
  if (globals.device === undefined && known.length === 0) return bareHeader('pi4')
  try {
    return await withRobot(app, globals, async (client, { name }) => {
      const values: Record<string, number> = {}
      for await (const pin of client.pins()) values[pin.name] = pin.value
      return { robot: name, board: await client.board(), values }
    })
  } catch (error) {
    // a person who connects wires has switched the robot off, and needs the picture all the same
    if (globals.device !== undefined || !(error instanceof Refusal) || error.code !== 'unreachable') throw error
    app.term.note(`${error.message}; showing the bare header`)
    return bareHeader('pi4')
  }
}

function show({ term }: App, { robot, board, values }: Header): void {
  const handles = board.handles.map((entry) => {
    const value = values[entry.name]
    return value === undefined ? entry : { ...entry, value }
  })
  term.event({ event: 'pinout', ...(robot === null ? {} : { robot }), ...board, handles })
  const paint: Paint = (style, text) => term.paint(style, text)
  term.line(titleOf(robot, board, paint))
  for (const line of headerLines({ board, values: (name) => values[name] }, term.size.columns, paint)) term.line(line)
}

function titleOf(robot: string | null, { name, model, handles }: BoardReport, paint: Paint): string {
  const board = name === undefined ? `board of model ${model}` : `${name} (${model})`
  if (robot !== null) return `${paint('bold', robot)}  ${board}`
  return handles.length === 0 ? `the header of a ${model}` : board
}

async function watch(app: App, options: Options, globals: Globals): Promise<number> {
  if (options.board !== undefined || options.model !== undefined) {
    throw new Refusal('usage', '--watch needs a robot: leave out --board and --model', 'medulla pinout --watch')
  }
  const { term } = app
  if (!term.hasScreen) return watchAsLines(app, options, globals)
  const feed = await Feed.open(app, globals)
  const paint: Paint = (style, text) => term.paint(style, text)
  // a terminal reports only that a key goes down: the first stroke presses the input, the second releases it
  const held = new Set<string>()
  const inputs = feed.report.simulated ? feed.board.handles.filter(({ kind }) => kind === 'input') : []
  const presses = inputs.slice(0, 9).map(({ name }, index): [string, string] => [String(index + 1), name])
  const draw = ({ columns, rows }: Size): string[] => {
    const { board, pins, lost, robot } = feed
    const title = titleOf(robot.name, board, paint)
    const about = lost === null ? title : `${title}  ${paint('red', `no answer: ${lost.message}`)}`
    const picture = headerLines({ board, values: (name) => pins.value(name) }, columns, paint, rows - 1)
    const all = [about, ...picture]
    // a screen too small for both shows the header and leaves this line out
    const foot =
      presses.length > 0 ? `${presses.map(([key, name]) => `${key} ${name}`).join('  ')}  q quits` : 'q quits'
    if (all.length < rows) return [...all, ...Array(rows - 1 - all.length).fill(''), paint('dim', foot)]
    return capped(all, rows, paint)
  }
  const press = (key: string): void => {
    const name = presses.find(([own]) => own === key)?.[1]
    if (name === undefined || feed.lost !== null) return
    const before = held.delete(name)
    if (!before) held.add(name)
    const level = before ? null : feed.pins.value(name) === 1 ? 0 : 1
    // the title already shows a robot that does not answer
    feed.client.poke(name, null, level).catch(() => held.delete(name))
  }
  await fullScreen(term, draw, (signal) => feed.run(signal), press)
  return 0
}

/** Without a terminal: the picture once, then a line for each change. */
async function watchAsLines(app: App, options: Options, globals: Globals): Promise<number> {
  const { term } = app
  show(app, await readHeader(app, options, globals))
  const pin = (change: PinChange): void => {
    term.event({ event: 'pin', ...change })
    term.line(`${change.name} ${valueText(change.value)}`)
  }
  const feed = await Feed.open(app, globals, {
    pin,
    lost: ({ message }) => term.note(`the robot does not answer: ${message}`),
    back: () => term.note('the robot answers again'),
  })
  await untilInterrupt((signal) => feed.run(signal))
  return 0
}
