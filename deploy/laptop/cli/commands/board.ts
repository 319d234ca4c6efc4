import { readFile, writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import type { BoardCheck, BoardReport } from '../../../shared/board.ts'
import { Refusal } from '../../../shared/errors.ts'
import { type App, example, type Runner } from '../app.ts'
import { shellWord } from '../clean.ts'
import { EXIT } from '../exit.ts'
import { codeFrame } from '../frame.ts'
import { askRuntime } from '../runtimebin.ts'

const FILE = 'board.json'

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'The board file: the names that programs ask for, and the pin or device of each. On the robot it is board.json in its home.',
    )
    .helpCommand(false)
    .action(() => {
      throw new Refusal('usage', 'expected new or check', 'medulla board --help')
    })
    .addHelpText(
      'after',
      example('medulla board new --model pi4', 'medulla board check', 'medulla pinout --board board.json'),
    )
  command
    .command('new')
    .summary('write a board file to edit')
    .description(
      'Writes a board file with comments: a led, a button, and an example of every kind commented out.\n' +
        'Comments, and a comma after the last entry of a list, are allowed in board files.',
    )
    .argument('[file]', 'the file to write; - is stdout', FILE)
    .requiredOption('--model <model>', 'sim, pi3, pi4, pi5, zero2w (a Zero 2 W) or linux (another board)')
    .option('--force', 'replace an existing file')
    .addHelpText('after', example('medulla board new --model pi4', 'medulla board new --model sim - | less'))
    .action((file: string, options: { model: string; force?: true }) => run(() => make(app, file, options)))
  command
    .command('check')
    .summary('read a board file as the robot would')
    .description(
      'Reads a board file with the code of the robot side. Prints its handles and advice on them, or the first\n' +
        `mistake with its line and what to write instead. Exit code 0, or ${EXIT.refused} for a mistake.`,
    )
    .argument('[file]', 'the board file', FILE)
    .addHelpText('after', example('medulla board check', 'medulla board check robots/blink/board.pi4.json --json'))
    .action((file: string) => run(() => check(app, file)))
}

async function make(app: App, file: string, { model, force }: { model: string; force?: true }): Promise<number> {
  const { text } = (await askRuntime(['board', 'new', '--model', model])) as { text: string }
  if (file === '-') {
    app.term.raw(text)
    return EXIT.ok
  }
  const path = resolve(file)
  await writeFile(path, text, { flag: force === true ? 'w' : 'wx' }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST') throw new Refusal('usage', `${path} exists already`, 'choose another name, or --force')
    throw new Refusal('usage', `${path} cannot be written: ${error.code}`)
  })
  app.term.event({ event: 'made', file: path, model })
  app.term.line(`made ${path}`)
  app.term.hint(`edit it, then: medulla board check${file === FILE ? '' : ` ${shellWord(file)}`}`)
  return EXIT.ok
}

/** Checks a board file with the code of the robot side. Prints the lines around a mistake, and throws `bad-board`. */
export async function checkedBoard(app: App, file: string): Promise<Extract<BoardCheck, { board: BoardReport }>> {
  const path = resolve(file)
  const answer = (await askRuntime(['board', 'check', '--board', path])) as BoardCheck
  if ('board' in answer) return answer
  const { mistake } = answer
  const { line, column, place, message, fix } = mistake
  app.term.event({ event: 'mistake', file: path, ...mistake })
  const width = app.term.isRead ? app.term.size.columns : undefined
  for (const shown of codeFrame(await readFile(path, 'utf8'), mistake, width)) app.term.note(shown)
  const where = `${file}:${line}:${column}: ${place === '' ? '' : `${place}: `}`
  throw new Refusal('bad-board', `${where}${message}`, fix)
}

async function check(app: App, file: string): Promise<number> {
  const { term } = app
  const { board, advice } = await checkedBoard(app, file)
  term.event({ event: 'board', file: resolve(file), ...board })
  for (const each of advice) term.event({ event: 'advice', ...each })
  const count = board.handles.length
  term.line(
    `${term.paint('green', 'ok')}  ${file}: model ${board.model}, ${count === 1 ? '1 handle' : `${count} handles`}`,
  )
  if (count > 0) {
    term.line()
    const rows = board.handles.map(({ name, kind, place, pins, safe, via }) => [
      name,
      kind,
      pins.join(', '),
      safe === undefined ? '' : String(safe),
      via,
      place,
    ])
    // the longest cells come last: only they go below their rows
    term.table(['handle', 'kind', 'pin', 'safe', 'via', 'place'], rows)
  }
  for (const { about, found, fix } of advice) {
    term.line()
    term.line(`${term.paint('yellow', 'advice')}  ${about} ${found}`)
    // a command stays on one line, so that it can be copied
    const [whole, command] = /, or (?=raspi-config )/.test(fix) ? fix.split(/, or (?=raspi-config )/) : [fix]
    term.line(`        ${whole}`)
    if (command !== undefined) term.line(`        or: ${command}`)
  }
  const at = shellWord(file)
  term.next(board.model === 'sim' ? `medulla sim --board ${at}` : `on the robot: medulla runtime run --board ${at}`)
  return EXIT.ok
}
