import { basename, join, resolve } from 'node:path'
import type { Command } from 'commander'
import { Refusal } from '../../../shared/errors.ts'
import { NAME_PATTERN } from '../../../shared/names.ts'
import { readRobots } from '../../config.ts'
import { type App, example, type Runner } from '../app.ts'
import { shellWord } from '../clean.ts'
import { makeProgram, TEMPLATES } from '../templates.ts'

const LIST = Object.entries(TEMPLATES)
  .map(([name, { about }]) => `${name} (${about})`)
  .join(', ')

export function define(command: Command, app: App, run: Runner): void {
  command
    .description(
      'Makes a folder with a program, its test, a board file, package.json and tsconfig.json. You can push the program at ' +
        'once; after `npm install` your editor knows the types, and `npm test` runs the test.',
    )
    .argument('<name>', 'name of the program and of its folder, or a path whose last part is the name')
    .option('--from <example>', `the example to copy: ${LIST}`, 'blink')
    .addHelpText('after', example('medulla new blinky', 'medulla new picker --from arm'))
    .action((path: string, { from }: { from: string }) => run(() => make(app, path, from)))
}

async function make(app: App, path: string, from: string): Promise<number> {
  const folder = resolve(path)
  const name = basename(folder)
  if (!NAME_PATTERN.test(name)) {
    throw new Refusal('usage', `expected a program name like arm-1 (a-z, 0-9, . _ -), got ${JSON.stringify(name)}`)
  }
  const template = Object.hasOwn(TEMPLATES, from) ? TEMPLATES[from] : undefined
  if (template === undefined) {
    const known = Object.keys(TEMPLATES).join(', ')
    throw new Refusal(
      'usage',
      `--from: expected ${known}, got ${JSON.stringify(from)}`,
      `medulla new ${name} --from arm`,
    )
  }
  const files = await makeProgram(folder, name, template)
  const next = nextCommands(app, path, name, from)
  app.term.event({ event: 'made', folder, name, from, files, next })
  app.term.line(`made ${folder}: ${files.filter((file) => !file.startsWith('.')).join(', ')}`)
  app.term.line('next:')
  for (const command of next) app.term.line(`  ${command}`)
  return 0
}

/**
 * Three commands that work as they are printed: with a robot that this laptop knows, or with a simulated robot of this
 * board.
 */
function nextCommands(app: App, path: string, name: string, from: string): string[] {
  const install = `cd ${shellWord(path)} && npm install && npm test`
  const known = Object.keys(readRobots(app.dir).robots)
  if (known.length === 0) return [install, 'medulla sim --keep --board board.json', 'medulla run']
  // `medulla sim` without --board has the board of blink
  if (from === 'blink' && known.includes('sim')) {
    return [`cd ${shellWord(path)} && npm install`, 'npm test', `medulla run${known.length > 1 ? ' -d sim' : ''}`]
  }
  const other = known.includes(name) ? `${name}-sim` : name
  return [install, `medulla sim --keep --name ${other} --board board.json`, `medulla run -d ${other}`]
}

/** Makes the first example in `folder`, for commands that need a program in a temporary folder. */
export const firstProgram = (folder: string, name: string): Promise<string[]> =>
  makeProgram(join(folder, name), name, TEMPLATES.blink as (typeof TEMPLATES)[string])
